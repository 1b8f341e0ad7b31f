// Package xmlrpc writes the calls and reads the answers of XML-RPC
// (xmlrpc.com/spec), with the nil and the long integers that Koji's hub speaks.
// What it reads is a stranger's: it takes it token by token, within bounds, and
// knows no entities but XML's own five.
package xmlrpc

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Call encodes a method call. Parameters are strings, ints, int64s, bools, nil,
// []any and map[string]any of these.
func Call(method string, params ...any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header + "<methodCall><methodName>")
	if err := text(&b, method); err != nil {
		return nil, err
	}
	b.WriteString("</methodName><params>")
	for _, p := range params {
		b.WriteString("<param>")
		if err := value(&b, p); err != nil {
			return nil, err
		}
		b.WriteString("</param>")
	}
	b.WriteString("</params></methodCall>")
	return b.Bytes(), nil
}

// Response encodes what a method returns.
func Response(v any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header + "<methodResponse><params><param>")
	if err := value(&b, v); err != nil {
		return nil, err
	}
	b.WriteString("</param></params></methodResponse>")
	return b.Bytes(), nil
}

func value(b *bytes.Buffer, v any) error {
	b.WriteString("<value>")
	defer b.WriteString("</value>")
	switch v := v.(type) {
	case nil:
		b.WriteString("<nil/>")
	case string:
		b.WriteString("<string>")
		defer b.WriteString("</string>")
		return text(b, v)
	case bool:
		digit := "0"
		if v {
			digit = "1"
		}
		b.WriteString("<boolean>" + digit + "</boolean>")
	case int:
		integer(b, int64(v))
	case int64:
		integer(b, v)
	case float64:
		b.WriteString("<double>" + strconv.FormatFloat(v, 'f', -1, 64) + "</double>")
	case []any:
		return array(b, v)
	case map[string]any:
		return structure(b, v)
	default:
		return fmt.Errorf("cannot write a %T in XML-RPC", v)
	}
	return nil
}

func integer(b *bytes.Buffer, v int64) {
	kind := "int"
	if v < math.MinInt32 || v > math.MaxInt32 {
		kind = "i8"
	}
	fmt.Fprintf(b, "<%s>%d</%s>", kind, v, kind)
}

func array(b *bytes.Buffer, list []any) error {
	b.WriteString("<array><data>")
	for _, v := range list {
		if err := value(b, v); err != nil {
			return err
		}
	}
	b.WriteString("</data></array>")
	return nil
}

func structure(b *bytes.Buffer, members map[string]any) error {
	b.WriteString("<struct>")
	for _, name := range slices.Sorted(maps.Keys(members)) {
		b.WriteString("<member><name>")
		if err := text(b, name); err != nil {
			return err
		}
		b.WriteString("</name>")
		if err := value(b, members[name]); err != nil {
			return err
		}
		b.WriteString("</member>")
	}
	b.WriteString("</struct>")
	return nil
}

// text escapes a text; what XML cannot say is refused, not bent.
func text(b *bytes.Buffer, s string) error {
	for _, r := range s {
		if r == utf8.RuneError || r < ' ' && r != '\t' && r != '\n' || r == 0xfffe || r == 0xffff {
			return fmt.Errorf("cannot write %q in XML-RPC: it holds what XML cannot say", s)
		}
	}
	return xml.EscapeText(b, []byte(s))
}
