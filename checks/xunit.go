package checks

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// maxXMLDepth bounds how deep elements of XML are nested.
const maxXMLDepth = 64

// xunitCase is one test of an xunit file.
type xunitCase struct {
	class, name string
	outcome     assay.Outcome
	note        string
	time        string // seconds, as the file says; "" if it does not
}

// good tells whether the test did not fail: it passed, or was skipped.
func (c xunitCase) good() bool { return c.outcome.Good() }

// result is the test as a result, named after its class and itself.
func (c xunitCase) result() assay.Result {
	name := c.name
	if c.class != "" && c.class != c.name {
		name = c.class + "." + c.name
	}
	r := assay.Result{Checkname: "." + testName(name), Outcome: c.outcome, Note: c.note}
	if c.time != "" {
		r.Data = map[string][]string{"time": {c.time}}
	}
	return r
}

// parseXUnit reads the XML that xunit's descendants write (JUnit's schema, as
// Ant, Maven, pytest and GoogleTest use it): testcase elements anywhere below
// testsuites or testsuite. Entities and document types are refused.
func parseXUnit(data []byte) ([]xunitCase, error) {
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\uFEFF"))))
	d.CharsetReader = plainCharset
	x := &xunitReader{}
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = x.take(token)
		}
		if err != nil {
			line, _ := d.InputPos()
			return nil, resultError(line, "read this as xunit's XML: %v", strings.TrimPrefix(err.Error(), "XML syntax error on "))
		}
	}
	line, _ := d.InputPos()
	switch {
	case len(x.open) > 0:
		return nil, resultError(line, "read this as xunit's XML: it ends within <%s>: was its writer stopped?", shownName(x.open[len(x.open)-1]))
	case !x.rooted:
		return nil, resultError(line, "read this as xunit's XML: there is no element in it: write <testsuite>")
	}
	return x.cases, nil
}

// plainCharset takes what UTF-8 holds already, whatever it is called.
func plainCharset(charset string, input io.Reader) (io.Reader, error) {
	switch strings.ToLower(charset) {
	case "utf8", "ascii", "us-ascii":
		return input, nil
	}
	return nil, fmt.Errorf("its encoding is %q: write UTF-8", oneLine(charset, 40))
}

// xunitReader takes the tokens of a file one after the other.
type xunitReader struct {
	open    []string // the elements that are not closed
	rooted  bool
	suite   string // the name of the innermost suite that has one
	cases   []xunitCase
	current *xunitCase
	depth   int // of current's element
	text    *strings.Builder
	textFor string // the element whose text is wanted
	failed  bool   // current has a failure or an error already
}

// take looks at one token. RawToken is used so that the stack of open elements
// is ours, and bounded.
func (x *xunitReader) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.Directive:
		return errors.New("it has a document type: write it without <!…>")
	case xml.StartElement:
		return x.start(t)
	case xml.EndElement:
		return x.end(t.Name.Local)
	case xml.CharData:
		if x.text != nil && x.text.Len() < maxTestNote {
			x.text.Write(t[:min(len(t), maxTestNote)])
		}
	}
	return nil
}

func (x *xunitReader) start(t xml.StartElement) error {
	name := t.Name.Local
	switch {
	case len(x.open) == 0 && x.rooted:
		return fmt.Errorf("there is a second root element <%s>: write one", shownName(name))
	case len(x.open) == 0 && name != "testsuites" && name != "testsuite":
		return fmt.Errorf("its root is <%s>: write <testsuites> or <testsuite>", shownName(name))
	case len(x.open) >= maxXMLDepth:
		return fmt.Errorf("elements are nested more than %d deep", maxXMLDepth)
	}
	x.rooted = true
	x.open = append(x.open, name)
	switch {
	case x.current != nil:
		x.startInCase(t)
	case name == "testsuite":
		x.suite = cmp.Or(attribute(t, "name"), x.suite)
	case name == "testcase":
		return x.startCase(xunitCase{
			class: attribute(t, "classname"), name: attribute(t, "name"), time: xunitTime(attribute(t, "time")), outcome: xunitStatus(t),
		})
	case (name == "failure" || name == "error") && x.inSuite():
		// A suite that could not even begin.
		if err := x.startCase(xunitCase{name: cmp.Or(x.suite, "suite"), outcome: assay.Failed}); err != nil {
			return err
		}
		x.depth--
		x.startInCase(t)
		x.depth++
	}
	return nil
}

// inSuite tells whether the newest element stands directly in a suite.
func (x *xunitReader) inSuite() bool {
	return len(x.open) >= 2 && slices.Contains([]string{"testsuite", "testsuites"}, x.open[len(x.open)-2])
}

func (x *xunitReader) startCase(c xunitCase) error {
	if len(x.cases) >= MaxResults {
		return fmt.Errorf("it holds more than %d tests: write fewer", MaxResults)
	}
	c.name = cmp.Or(testName(c.name), "test "+fmt.Sprint(len(x.cases)+1))
	c.class = testName(c.class)
	x.current, x.depth, x.failed = &c, len(x.open), false
	return nil
}

// startInCase takes an element that stands directly in a test.
func (x *xunitReader) startInCase(t xml.StartElement) {
	if len(x.open) != x.depth+1 {
		return
	}
	switch name := t.Name.Local; name {
	case "failure", "error":
		x.current.outcome, x.failed = assay.Failed, true
		x.say(name, cmp.Or(attribute(t, "message"), attribute(t, "type")))
	case "skipped":
		if !x.failed {
			x.current.outcome = assay.Info
		}
		x.say(name, attribute(t, "message"))
	case "system-out", "system-err":
		x.textFor = name
	default:
		return
	}
	x.text = &strings.Builder{}
}

// say adds a line to the note of the test.
func (x *xunitReader) say(kind, message string) {
	x.textFor = ""
	if message = testNote(message); message != "" {
		kind += ": " + message
	}
	x.add(kind)
}

func (x *xunitReader) add(text string) {
	if x.current.note != "" && text != "" {
		text = "\n" + text
	}
	x.current.note = cut(x.current.note+text, maxTestNote)
}

func (x *xunitReader) end(name string) error {
	if len(x.open) == 0 || x.open[len(x.open)-1] != name {
		return fmt.Errorf("</%s> closes nothing", shownName(name))
	}
	if x.text != nil && len(x.open) <= x.depth+1 {
		x.endText()
	}
	if x.current != nil && len(x.open) == x.depth {
		x.cases = append(x.cases, *x.current)
		x.current = nil
	}
	x.open = x.open[:len(x.open)-1]
	return nil
}

// endText adds the text of an element to the note. What a test printed is only
// told of one that did not pass.
func (x *xunitReader) endText() {
	text := testNote(strings.TrimSpace(x.text.String()))
	x.text = nil
	switch {
	case text == "":
	case x.textFor == "":
		x.add(text)
	case !x.current.good():
		x.add(x.textFor + ":\n" + text)
	}
}

// xunitStatus is the outcome of a test before anything within it is seen:
// GoogleTest and CTest say in attributes which tests were not run.
func xunitStatus(t xml.StartElement) assay.Outcome {
	switch {
	case slices.Contains([]string{"notrun", "disabled", "skipped"}, attribute(t, "status")), attribute(t, "result") == "suppressed":
		return assay.Info
	case attribute(t, "status") == "fail":
		return assay.Failed
	}
	return assay.Passed
}

// xunitTime takes a time that looks like a number.
func xunitTime(s string) string {
	if len(s) > 20 || strings.Trim(s, "0123456789.,eE+-") != "" {
		return ""
	}
	return s
}

// attribute is an element's attribute, "" if it has none of the name.
func attribute(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}

func shownName(s string) string { return oneLine(s, 40) }
