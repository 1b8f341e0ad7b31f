package checks

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const fixHead = "name: x\ndesc: y\nmaintainer: z\n"

// What stands before and after a fix. An empty after expects that nothing is
// done.
func TestFix(t *testing.T) {
	const list = "actions:\n  - name: n\n    shell: [ls]\n"
	for name, tt := range map[string]struct{ before, after string }{
		"older keys":                   {fixHead + "task:\n  - name: n\n    bash: [ls] # as ever\n", fixHead + "actions:\n  - name: n\n    shell: [ls] # as ever\n"},
		"quoted older key":             {fixHead + "\"task\":\n  - name: n\n    'bash': [ls]\n", fixHead + "\"actions\":\n  - name: n\n    'shell': [ls]\n"},
		"misspelt keys":                {"nmae: x # c\ndecs:   y\nmaintaner: z\n" + list, "name: x # c\ndesc:   y\nmaintainer: z\n" + list},
		"misspelt directive":           {fixHead + "actions:\n  - nmae: n\n    shel: [ls]\n", fixHead + "actions:\n  - name: n\n    shell: [ls]\n"},
		"misspelt below environment":   {fixHead + "enviroment: {memmory: 1GiB}\n" + list, fixHead + "environment: {memory: 1GiB}\n" + list},
		"two words are near":           {fixHead + "nam: x\n" + list, ""},
		"no word is near":              {fixHead + "colour: red\n" + list, ""},
		"the key is there already":     {fixHead + "namee: x\n" + list, ""},
		"two keys are meant for one":   {"nmae: x\nnaem: x\ndesc: y\nmaintainer: z\n" + list, "name: x\nnaem: x\ndesc: y\nmaintainer: z\n" + list},
		"number for a text":            {"name: 1.10 # not 1.1\ndesc: y\nmaintainer: 0x1F\n" + list, "name: \"1.10\" # not 1.1\ndesc: y\nmaintainer: \"0x1F\"\n" + list},
		"boolean for a text":           {"name: x\ndesc: true\nmaintainer: z\n" + list, "name: x\ndesc: \"true\"\nmaintainer: z\n" + list},
		"an item type and variables":   {fixHead + "input: {args: [bodhi_id, arch]}\nactions:\n  - name: bodhi_id\n    shell:\n      - echo ${bodhi_id} $bodhi_id $$bodhi_id\n      - [echo, 'x ${bodhi_id}']\n", fixHead + "input: {args: [bodhi_update, arch]}\nactions:\n  - name: bodhi_id\n    shell:\n      - echo ${bodhi_update} $bodhi_update $$bodhi_id\n      - [echo, 'x ${bodhi_update}']\n"},
		"both names of an item type":   {fixHead + "input: {args: [bodhi_id, bodhi_update]}\n" + list, ""},
		"an item type by an alias":     {fixHead + "input: {args: [module]}\nactions:\n  - name: n\n    shell: [&a 'echo ${module}', *a]\n", fixHead + "input: {args: [module_build]}\nactions:\n  - name: n\n    shell: [&a 'echo ${module_build}', *a]\n"},
		"an escaped variable":          {fixHead + "input: {args: [module]}\nactions:\n  - name: n\n    shell: [\"echo \\x24{module}\"]\n", ""},
		"a command with a colon":       {fixHead + "actions:\n  - name: n\n    shell:\n      - echo it's: done # c\n      - 'echo: x'\n", fixHead + "actions:\n  - name: n\n    shell:\n      - 'echo it''s: done' # c\n      - 'echo: x'\n"},
		"a command that ends with one": {fixHead + "actions:\n  - name: n\n    shell:\n      - echo done:\n", fixHead + "actions:\n  - name: n\n    shell:\n      - 'echo done:'\n"},
		"colon in a value":             {"name: x\ndesc: it's this: that # why\nmaintainer: z\n" + list, "name: x\ndesc: 'it''s this: that' # why\nmaintainer: z\n" + list},
		"colon in a name":              {fixHead + "actions:\n  - name: a: b\n    shell: [ls]\n", fixHead + "actions:\n  - name: 'a: b'\n    shell: [ls]\n"},
		"colon in an item":             {fixHead + "actions:\n  - name: n\n    shell:\n      - a: b: c\n", ""},
		"reserved character":           {"name: x\ndesc: @home\nmaintainer: %z\n" + list, "name: x\ndesc: '@home'\nmaintainer: '%z'\n" + list},
		"reserved character in a list": {fixHead + "environment:\n  rpm: [a, @b]\n" + list, ""},
		"one of a list over lines":     {fixHead + "environment:\n  rpm: [\n    @b,\n  ]\n" + list, ""},
		"tabs":                         {fixHead + "actions:\n\t- name: n\n\t  shell: [ls]\n", fixHead + "actions:\n  - name: n\n    shell: [ls]\n"},
		"tabs of an unknown width":     {fixHead + "environment:\n  rpm: x\n\tdeb: y\n    \tpip: x\n" + list, ""},
		"tabs beside a block":          {"name: x\nmaintainer: z\ndesc: |\n  all:\n  \tmake\nactions:\n\t- name: n\n\t  shell: [ls]\n", ""},
		"a tab after spaces":           {fixHead + "environment:\n  \trpm: a\n" + list, fixHead + "environment:\n    rpm: a\n" + list},
		"mark and line ends":           {"\uFEFFnmae: x\r\ndesc: ü\r\nmaintainer: 7\r\ntask:\r\n- name: n\r\n  bash: ls\r\n", "\uFEFFname: x\r\ndesc: ü\r\nmaintainer: \"7\"\r\nactions:\r\n- name: n\r\n  shell: ls\r\n"},
		"mistakes one behind another":  {"name: x\ndesc: a: b\nmaintainer: @c\ntask:\n\t- nmae: n\n\t  shel: [ls]\n", "name: x\ndesc: 'a: b'\nmaintainer: '@c'\nactions:\n  - name: n\n    shell: [ls]\n"},
		"not even YAML":                {"{{{", ""},
		"nothing":                      {"", ""},
		"no mistake":                   {fixHead + list, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Fix("f.yml", []byte(tt.before))
			if tt.after == "" {
				if len(got.Done) > 0 || string(got.Data) != tt.before {
					t.Fatalf("something is done: %v\n%s", got.Done, got.Data)
				}
				return
			}
			if string(got.Data) != tt.after {
				t.Errorf("got\n%s\nwant\n%s", got.Data, tt.after)
			}
			if len(got.Done) == 0 {
				t.Error("nothing is said to be done")
			}
			wantFixed(t, got.Data)
		})
	}
}

// wantFixed wants that there is nothing left to fix.
func wantFixed(t *testing.T, data []byte) {
	t.Helper()
	if again := Fix("f.yml", data); len(again.Done) > 0 || !bytes.Equal(again.Data, data) {
		t.Errorf("a second time there is more to do: %v\n%s", again.Done, again.Data)
	}
}

// The corpus holds every mistake that there is. None may become worse.
func TestFixOfTheCorpus(t *testing.T) {
	files, err := filepath.Glob(corpus + "/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("cannot find the corpus: %v", err)
	}
	done := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fixed := Fix(file, data)
		done += len(fixed.Done)
		wantFixed(t, fixed.Data)
		if parse(file, fixed.Data).syntax && !parse(file, data).syntax {
			t.Errorf("%s: the fix broke it:\n%s", file, fixed.Data)
		}
		if _, err := Parse(file, data); err == nil {
			if _, err := Parse(file, fixed.Data); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	if done < 10 {
		t.Errorf("%d mistakes of the whole corpus are mended: that cannot be all", done)
	}
}

func FuzzFix(f *testing.F) {
	files, err := filepath.Glob(corpus + "/bad-*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("\uFEFFnmae: &a 1.0\r\ntask: [{bash: *a, name: 'x\u2028y: ${bodhi_id}'}]\u0085input: {args: [bodhi_id]}\r"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		before := parse("f.yml", data)
		fixed := Fix("f.yml", data)
		if len(fixed.Done) == 0 && !bytes.Equal(fixed.Data, data) {
			t.Fatal("changed without a word")
		}
		if strings.Count(string(data), "\n") != strings.Count(string(fixed.Data), "\n") {
			t.Fatal("the lines are others")
		}
		if len(fixed.Done) < maxFixRounds {
			wantFixed(t, fixed.Data)
		}
		if after := parse("f.yml", fixed.Data); after.syntax && !before.syntax {
			t.Fatalf("broken by the fix: %v\n%s", after.mistakes, fixed.Data)
		}
	})
}
