package xmlrpc

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Bounds of what is read. A large tag of a build system has some tens of
// thousands of builds with twenty members each.
const (
	maxDepth  = 32
	maxValues = 4 << 20
	maxText   = 16 << 20 // bytes of one text
)

// Fault is the error that a server answers a call with.
type Fault struct {
	Code   int64
	String string
}

func (f *Fault) Error() string { return fmt.Sprintf("fault %d: %s", f.Code, f.String) }

// ReadResponse reads what a method returned: nil, string, int64, float64, bool,
// []byte, []any or map[string]any; dates are strings. The error is a *Fault when
// the server says so, and otherwise tells what is not XML-RPC.
func ReadResponse(r io.Reader) (any, error) {
	d := newDecoder(r)
	if _, err := d.start("methodResponse"); err != nil {
		return nil, err
	}
	first, err := d.start("params", "fault")
	if err != nil {
		return nil, err
	}
	if first == "fault" {
		return nil, d.fault()
	}
	v, err := d.param()
	if err != nil {
		return nil, err
	}
	return v, d.ends("params", "methodResponse")
}

// ReadCall reads a method call.
func ReadCall(r io.Reader) (method string, params []any, err error) {
	d := newDecoder(r)
	if _, err := d.start("methodCall"); err != nil {
		return "", nil, err
	}
	if _, err := d.start("methodName"); err != nil {
		return "", nil, err
	}
	if method, err = d.text("methodName"); err != nil {
		return "", nil, err
	}
	if _, err := d.start("params"); err != nil {
		return "", nil, err
	}
	for {
		more, err := d.startOrEnd("param", "params")
		if err != nil {
			return "", nil, err
		}
		if !more {
			return method, params, d.ends("methodCall")
		}
		v, err := d.wholeValue()
		if err != nil {
			return "", nil, err
		}
		params = append(params, v)
		if err := d.ends("param"); err != nil {
			return "", nil, err
		}
	}
}

// decoder walks an XML document forwards.
type decoder struct {
	xml    *xml.Decoder
	values int
	depth  int
}

func newDecoder(r io.Reader) *decoder { return &decoder{xml: xml.NewDecoder(r)} }

func broken(format string, args ...any) error {
	return fmt.Errorf("cannot read it as XML-RPC: "+format, args...)
}

// next returns the next element's start or end, or a text that is more than
// space between them.
func (d *decoder) next() (xml.Token, error) {
	for {
		token, err := d.xml.Token()
		if errors.Is(err, io.EOF) {
			return nil, broken("it ends too early")
		}
		if err != nil {
			return nil, broken("%v", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, broken("it declares a document type, and with it perhaps entities")
		case xml.CharData:
			if len(t) > maxText {
				return nil, broken("a text is too long")
			}
			if strings.TrimSpace(string(t)) != "" {
				return t, nil
			}
		case xml.StartElement, xml.EndElement:
			return token, nil
		}
	}
}

// start wants one of some elements to begin.
func (d *decoder) start(names ...string) (string, error) {
	token, err := d.next()
	if err != nil {
		return "", err
	}
	if t, ok := token.(xml.StartElement); ok {
		for _, name := range names {
			if t.Name.Local == name {
				return name, nil
			}
		}
	}
	return "", broken("%s stands where <%s> should", said(token), strings.Join(names, "> or <"))
}

// startOrEnd tells whether inner begins, or else outer ends.
func (d *decoder) startOrEnd(inner, outer string) (bool, error) {
	token, err := d.next()
	if err != nil {
		return false, err
	}
	switch t := token.(type) {
	case xml.StartElement:
		if t.Name.Local == inner {
			return true, nil
		}
	case xml.EndElement:
		if t.Name.Local == outer {
			return false, nil
		}
	}
	return false, broken("%s stands within <%s>", said(token), outer)
}

// ends wants elements to end, inner ones first.
func (d *decoder) ends(names ...string) error {
	for _, name := range names {
		token, err := d.next()
		if err != nil {
			return err
		}
		if t, ok := token.(xml.EndElement); !ok || t.Name.Local != name {
			return broken("%s stands where </%s> should", said(token), name)
		}
	}
	return nil
}

func said(token xml.Token) string {
	text := "a text"
	switch t := token.(type) {
	case xml.StartElement:
		text = "<" + t.Name.Local + ">"
	case xml.EndElement:
		text = "</" + t.Name.Local + ">"
	}
	return strconv.QuoteToASCII(text[:min(len(text), 60)])
}

// text reads up to an element's end.
func (d *decoder) text(name string) (string, error) {
	var b strings.Builder
	for {
		token, err := d.xml.Token()
		if err != nil {
			return "", broken("%v", err)
		}
		switch t := token.(type) {
		case xml.CharData:
			if b.Len()+len(t) > maxText {
				return "", broken("a text is too long")
			}
			b.Write(t)
		case xml.EndElement:
			return b.String(), nil
		case xml.StartElement, xml.Directive:
			return "", broken("%s stands within <%s>", said(token), name)
		}
	}
}

func (d *decoder) param() (any, error) {
	if _, err := d.start("param"); err != nil {
		return nil, err
	}
	v, err := d.wholeValue()
	if err != nil {
		return nil, err
	}
	return v, d.ends("param")
}

func (d *decoder) wholeValue() (any, error) {
	if _, err := d.start("value"); err != nil {
		return nil, err
	}
	return d.value()
}

// value reads what stands behind <value>, up to its end. Without a type it is a
// string.
func (d *decoder) value() (any, error) {
	if d.values++; d.values > maxValues {
		return nil, broken("it has more than %d values", maxValues)
	}
	if d.depth++; d.depth > maxDepth {
		return nil, broken("its values are nested more than %d deep", maxDepth)
	}
	defer func() { d.depth-- }()
	var b strings.Builder
	for {
		token, err := d.xml.Token()
		if err != nil {
			return nil, broken("%v", err)
		}
		switch t := token.(type) {
		case xml.CharData:
			if b.Len()+len(t) > maxText {
				return nil, broken("a text is too long")
			}
			b.Write(t)
		case xml.EndElement:
			return b.String(), nil
		case xml.Directive:
			return nil, broken("it declares a document type")
		case xml.StartElement:
			if strings.TrimSpace(b.String()) != "" {
				return nil, broken("a value is both a text and <%s>", cutName(t.Name.Local))
			}
			v, err := d.typed(t.Name.Local)
			if err != nil {
				return nil, err
			}
			return v, d.ends("value")
		}
	}
}

func cutName(s string) string { return s[:min(len(s), 40)] }

// typed reads a value of a type, up to that element's end.
func (d *decoder) typed(kind string) (any, error) {
	switch kind {
	case "array":
		return d.array()
	case "struct":
		return d.structure()
	}
	text, err := d.text(kind)
	if err != nil {
		return nil, err
	}
	return scalar(kind, text)
}

func scalar(kind, text string) (any, error) {
	switch kind {
	case "string", "dateTime.iso8601":
		return text, nil
	case "nil":
		return nil, nil
	case "boolean":
		switch strings.TrimSpace(text) {
		case "0":
			return false, nil
		case "1":
			return true, nil
		}
	case "int", "i1", "i2", "i4", "i8":
		if n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil {
			return n, nil
		}
	case "double":
		f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, nil
		}
	case "base64":
		if b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), "")); err == nil {
			return b, nil
		}
	default:
		return nil, broken("%q is no type", cutName(kind))
	}
	return nil, broken("%q is no %s", text[:min(len(text), 60)], kind)
}

func (d *decoder) array() (any, error) {
	list := []any{}
	if _, err := d.start("data"); err != nil {
		return nil, err
	}
	for {
		more, err := d.startOrEnd("value", "data")
		if err != nil {
			return nil, err
		}
		if !more {
			return list, d.ends("array")
		}
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}

func (d *decoder) structure() (any, error) {
	members := map[string]any{}
	for {
		more, err := d.startOrEnd("member", "struct")
		if err != nil || !more {
			return members, err
		}
		if _, err := d.start("name"); err != nil {
			return nil, err
		}
		name, err := d.text("name")
		if err != nil {
			return nil, err
		}
		v, err := d.wholeValue()
		if err != nil {
			return nil, err
		}
		if _, twice := members[name]; twice {
			return nil, broken("a struct has two members of one name")
		}
		members[name] = v
		if err := d.ends("member"); err != nil {
			return nil, err
		}
	}
}

// fault reads what stands behind <fault>.
func (d *decoder) fault() error {
	v, err := d.wholeValue()
	if err != nil {
		return err
	}
	if err := d.ends("fault", "methodResponse"); err != nil {
		return err
	}
	members, _ := v.(map[string]any)
	code, okCode := members["faultCode"].(int64)
	text, okText := members["faultString"].(string)
	if !okCode || !okText {
		return broken("its fault has no faultCode or no faultString")
	}
	return &Fault{code, text}
}
