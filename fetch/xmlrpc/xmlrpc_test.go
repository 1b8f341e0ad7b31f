package xmlrpc_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay/fetch/xmlrpc"
)

func response(value string) string {
	return `<?xml version='1.0' encoding='utf-8'?>` + "\n<methodResponse>\n <params><param><value>" + value + "</value></param></params>\n</methodResponse>\n"
}

func TestReadResponse(t *testing.T) {
	tests := []struct {
		value string
		want  any
	}{
		{"<string>a &amp; b</string>", "a & b"},
		{"without a type", "without a type"},
		{"", ""},
		{"<string/>", ""},
		{"<string> kept </string>", " kept "},
		{"<int>-7</int>", int64(-7)},
		{"<i4> 7 </i4>", int64(7)},
		{"<i8>5000000000</i8>", int64(5000000000)},
		{"<ex:i8 xmlns:ex='http://x/'>5</ex:i8>", int64(5)},
		{"<boolean>1</boolean>", true},
		{"<boolean>0</boolean>", false},
		{"<double>1.5</double>", 1.5},
		{"<nil/>", nil},
		{"<dateTime.iso8601>20260101T00:00:00</dateTime.iso8601>", "20260101T00:00:00"},
		{"<base64>aGVs\n bG8=</base64>", []byte("hello")},
		{"<array><data></data></array>", []any{}},
		{"\n <array>\n<data>\n<value><int>1</int></value> <value>two</value></data></array>\n", []any{int64(1), "two"}},
		{"<struct></struct>", map[string]any{}},
		{"<struct> <member> <name>a</name> <value><nil/></value> </member></struct>", map[string]any{"a": nil}},
		{"<string><!-- a comment -->x</string>", "x"},
	}
	for _, tt := range tests {
		got, err := xmlrpc.ReadResponse(strings.NewReader(response(tt.value)))
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tt.value, err, diff)
		}
	}
}

func TestReadResponseRefuses(t *testing.T) {
	tests := map[string]string{
		"":                                             "too early",
		"hello":                                        "stands where",
		"<html></html>":                                "<methodResponse>",
		response("<int>x</int>"):                       "is no int",
		response("<int></int>"):                        "is no int",
		response("<i8>9999999999999999999</i8>"):       "is no i8",
		response("<boolean>2</boolean>"):               "is no boolean",
		response("<double>NaN</double>"):               "is no double",
		response("<base64>*</base64>"):                 "is no base64",
		response("<long>1</long>"):                     "is no type",
		response("text<int>1</int>"):                   "both a text and",
		response("<int>1</int><int>2</int>"):           "</value>",
		response("<int><b/></int>"):                    "within <int>",
		response("<array><value>1</value></array>"):    "<data>",
		response("<struct><name>a</name></struct>"):    "within <struct>",
		response("<struct><member></member></struct>"): "<name>",
		response("<struct><member><name>a</name><value/></member><member><name>a</name><value/></member></struct>"): "two members",
		response("&unknown;"):                                                         "invalid character entity",
		`<!DOCTYPE x>` + response("x"):                                                "document type",
		strings.TrimSpace(response("x"))[:80]:                                         "",
		strings.Repeat("<a>", 10):                                                     "stands where",
		response(strings.Repeat("<array><data><value>", 40)):                          "nested",
		`<methodResponse><fault><value><int>1</int></value></fault></methodResponse>`: "faultCode",
	}
	for text, want := range tests {
		_, err := xmlrpc.ReadResponse(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "cannot read it as XML-RPC: ") {
			t.Errorf("%.100q: %v, want …%s…", text, err, want)
		}
	}
}

func TestFault(t *testing.T) {
	text := `<methodResponse><fault><value><struct><member><name>faultString</name><value>No such build</value></member>` +
		`<member><name>faultCode</name><value><int>1000</int></value></member></struct></value></fault></methodResponse>`
	_, err := xmlrpc.ReadResponse(strings.NewReader(text))
	var fault *xmlrpc.Fault
	if !errors.As(err, &fault) || fault.Code != 1000 || fault.String != "No such build" {
		t.Errorf("%v", err)
	}
}

// What is written is read back the same.
func TestCall(t *testing.T) {
	params := []any{"f42 <&> ü", 7, int64(-3), true, false, nil, []any{"a", []any{}}, map[string]any{"package": "hello", "__starstar": true}, 1.5}
	data, err := xmlrpc.Call("listTagged", params...)
	if err != nil {
		t.Fatal(err)
	}
	method, got, err := xmlrpc.ReadCall(bytes.NewReader(data))
	want := append([]any{}, params...)
	want[1] = int64(7)
	if diff := cmp.Diff(want, got); diff != "" || err != nil || method != "listTagged" {
		t.Errorf("%s, %v\n%s", method, err, diff)
	}
	for _, bad := range []any{"\x00", "\xff", "a\x1b[31m", map[string]any{"\x00": 1}, []any{struct{}{}}, uint(1)} {
		if data, err := xmlrpc.Call("m", bad); err == nil {
			t.Errorf("%#v became %s", bad, data)
		}
	}
}

func FuzzXMLRPC(f *testing.F) {
	for _, value := range []string{
		"<string>a &amp; b</string>", "x", "<i8>5000000000</i8>", "<boolean>1</boolean>", "<double>1e3</double>", "<nil/>",
		"<base64>aGVsbG8=</base64>", "<array><data><value><int>1</int></value></data></array>",
		"<struct><member><name>a</name><value><array><data/></array></value></member></struct>",
	} {
		f.Add(response(value))
	}
	f.Add(`<!DOCTYPE l [<!ENTITY a "ha">]><methodResponse><params><param><value>&a;</value></param></params></methodResponse>`)
	f.Add(`<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int></value></member><member><name>faultString</name><value>x</value></member></struct></value></fault></methodResponse>`)
	f.Add(`<methodCall><methodName>m</methodName><params><param><value>x</value></param></params></methodCall>`)
	f.Fuzz(func(t *testing.T, text string) {
		_, _, _ = xmlrpc.ReadCall(strings.NewReader(text))
		v, err := xmlrpc.ReadResponse(strings.NewReader(text))
		if err != nil || hasBytes(v) {
			return
		}
		data, err := xmlrpc.Response(v)
		if err != nil {
			return // XML can say it by a character reference only
		}
		again, err := xmlrpc.ReadResponse(bytes.NewReader(data))
		if err != nil || !cmp.Equal(v, again) && !strings.Contains(fmt.Sprint(v), "\r") {
			t.Errorf("%v became %v, %v", v, again, err)
		}
	})
}

// hasBytes tells what is read and never written.
func hasBytes(v any) bool {
	switch v := v.(type) {
	case []byte:
		return true
	case []any:
		for _, item := range v {
			if hasBytes(item) {
				return true
			}
		}
	case map[string]any:
		for _, item := range v {
			if hasBytes(item) {
				return true
			}
		}
	}
	return false
}
