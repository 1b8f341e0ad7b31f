package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShape(t *testing.T) {
	nest := func(n int) string { return strings.Repeat(`{"a":[`, n/2) + strings.Repeat("]}", n/2) }
	for body, want := range map[string]string{
		`{}`: "", `[]`: "", `"a"`: "", ``: "", `{`: "", `}]}`: "", `{"a`: "", `{"a":`: "", `"\`: "", `{"a\`: "", `{"`: "",
		`{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}`: "",
		`{"a":"a","b":["a","a","a"],"c":"a"}`:       "",
		`{"a":"\",\"a\":","b":1}`:                   "",
		`{"A":1,"a":2}`:                             "",
		`[{"a":1},{"a":1}]`:                         "",
		`{"a":1,"a":1}`:                             `"a" is given twice`,
		`{"a":1, "\u0061" :1}`:                      `"a" is given twice`,
		`{"a":{"x":[],"x":1}}`:                      `"x" is given twice`,
		`{"a":[[{"":1,"":1}]]}`:                     `"" is given twice`,
		`{"a":{"b":1},"a":1}`:                       `"a" is given twice`,
		"{\"\xff\":1}":                              "it is not UTF-8",
		nest(maxDepth):                              "",
		nest(maxDepth + 2):                          "it nests more than 64 deep",
		strings.Repeat("[", 1<<20):                  "it nests more than 64 deep",
		strings.Repeat("]", 1<<10) + `{"a":1,"a":1`: `"a" is given twice`,
	} {
		got := ""
		if err := checkShape([]byte(body)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.40q: %q, want %q", body, got, want)
		}
	}
}

// A large object does not make the small ones after it dear: what this needs
// would be squared otherwise, and the test would not end.
func TestShapeOfLargeThenMany(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`[{`)
	for i := range 200_000 {
		fmt.Fprintf(&b, `"k%d":1,`, i)
	}
	b.WriteString(`"last":1`)
	b.WriteString(`}` + strings.Repeat(`,{"a":1}`, 200_000) + `]`)
	if err := checkShape(b.Bytes()); err != nil {
		t.Error(err)
	}
}

// FuzzShape holds checkShape against what encoding/json says of the same JSON.
func FuzzShape(f *testing.F) {
	for _, seed := range []string{`{"a":1,"a":2}`, `{"a":{"\u0061":[{},{"b":"\"}"}]},"b":null}`, `[[["x"]]]`, `{"\ud800":1,"\ud801":2}`, `{"a`, "{\"\xff\":1}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		err := checkShape(body)
		if !utf8.Valid(body) || !json.Valid(body) {
			return // it is enough that it ends
		}
		twice, depth := reference(t, body)
		if want := twice || depth > maxDepth; want != (err != nil) {
			t.Errorf("%q: %v, but twice is %v and the depth %d", body, err, twice, depth)
		}
	})
}

// reference reads the tokens of valid JSON.
func reference(t *testing.T, body []byte) (twice bool, deepest int) {
	type frame struct {
		keys map[string]bool // nil for a list
		key  bool
	}
	stack := []*frame{{}}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			return twice, deepest
		}
		top := stack[len(stack)-1]
		if name, ok := token.(string); ok && top.keys != nil && top.key {
			twice = twice || top.keys[name]
			top.keys[name], top.key = true, false
			continue
		}
		switch token {
		case json.Delim('{'):
			top.key = true
			stack = append(stack, &frame{keys: map[string]bool{}, key: true})
		case json.Delim('['):
			top.key = true
			stack = append(stack, &frame{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		default:
			top.key = true
		}
		deepest = max(deepest, len(stack)-1)
	}
}

func TestMembers(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":1,"b":2}`: `{"a":1}`,
		`{"b":2,"a":1}`: `{"a":1}`,
		` { "b" : [1,{"a":9}] , "a" : {"x":[1,2],"b":"}"} } `: `{"a" : {"x":[1,2],"b":"}"} }`,
		`{"a":"x\"],","c":null,"b":{"c":[]}}`:                 `{"a":"x\"],","c":null}`,
		`{}`:                                                  `{}`,
		`{"b":1}`:                                             `{"b":1}`,
		`[{"a":1}]`:                                           `[{"a":1}]`,
		`"a"`:                                                 `"a"`,
		`{"a":1,`:                                             `{"a":1,`,
		`{"a":[1,2}`:                                          `{"a":[1,2}`,
	} {
		if got := string(members([]byte(body), "a", "c")); got != want {
			t.Errorf("%s:\n got %s\nwant %s", body, got, want)
		}
	}
}

func FuzzMembers(f *testing.F) {
	for _, body := range []string{`{"a":1,"b":2}`, ` { "b" : [1,{"a":9}] , "a" : {"x":[1,2],"b":"}"} } `, `{"a":"x\"],","c":null,"b":{"c":[]}}`, `[1]`, `{"a":`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkShape(body) != nil {
			return
		}
		var whole, some struct{ A, C any }
		exact := map[string]json.RawMessage{}
		if json.Unmarshal(body, &exact) == nil {
			_ = json.Unmarshal(exact["a"], &whole.A)
			_ = json.Unmarshal(exact["c"], &whole.C)
		}
		picked := map[string]json.RawMessage{}
		if json.Unmarshal(members(body, "a", "c"), &picked) == nil {
			_ = json.Unmarshal(picked["a"], &some.A)
			_ = json.Unmarshal(picked["c"], &some.C)
		}
		if bytes.ContainsRune(body, '\\') {
			return // a key may be written in another way, which no forge does
		}
		if !reflect.DeepEqual(whole, some) {
			t.Errorf("%s: %v, want %v", body, some, whole)
		}
	})
}
