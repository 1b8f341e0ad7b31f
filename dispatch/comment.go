package dispatch

import (
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// commentRow is one check in the comment.
type commentRow struct {
	x       assay.Execution
	results []assay.Result // of a check that did not pass
	excerpt []string       // the end of its log, the last line last
	page    string
	waiver  assay.Waiver // zero for none
}

// good tells that the check is no trouble.
func (row commentRow) good() bool {
	return row.x.Status() == assay.StatusSuccess || row.waiver.Context != ""
}

// open tells that the check has not ended.
func (row commentRow) open() bool { return row.x.State != assay.StateFinished }

// bad tells that the check has ended, and how.
func (row commentRow) bad() bool { return row.x.State == assay.StateFinished && !row.good() }

// maxCommentResults bounds how many failed results of a check are listed.
const maxCommentResults = 10

// maxExcerpt bounds the lines of a check's log in the comment.
const maxExcerpt = 15

// renderComment is the comment's Markdown, in the dialect that GitHub, Gitea,
// Forgejo, GitLab and Pagure have in common: a table, and below it what each bad
// check said, folded. Everything in it may come from a hostile check: it is
// quoted as code or escaped.
func renderComment(rows []commentRow) string {
	sortRows(rows)
	var b strings.Builder
	b.WriteString(commentHeadline(rows))
	b.WriteString("\n\n| check | on | outcome | |\n|---|---|---|---|\n")
	for _, row := range rows {
		fmt.Fprintf(&b, "| [%s](<%s>) | %s | %s | %s |\n", cell(row.name()), row.page, cell(row.x.Item), row.outcome(), row.why())
	}
	for _, row := range rows {
		if row.bad() {
			b.WriteString(foldedRow(row))
		}
	}
	b.WriteString(commentFoot(rows))
	return b.String()
}

// sortRows puts what is bad first.
func sortRows(rows []commentRow) {
	slices.SortStableFunc(rows, func(a, b commentRow) int {
		if a.good() != b.good() {
			if a.good() {
				return 1
			}
			return -1
		}
		return strings.Compare(a.x.StatusContext(), b.x.StatusContext())
	})
}

// name is what tells the check from the others of the commit.
func (row commentRow) name() string {
	return strings.TrimPrefix(row.x.StatusContext(), WholeContext+"/")
}

// outcome is the state or the verdict, with a picture.
func (row commentRow) outcome() string {
	switch {
	case row.waiver.Context != "":
		return "⚪ waived"
	case row.open():
		return "⏳ " + string(row.x.State)
	case row.x.Verdict == assay.VerdictSkipped:
		return "⚪ skipped"
	case row.good():
		return "✅ " + string(row.x.Verdict)
	case row.x.Verdict.Status() == assay.StatusError:
		return "⚠️ **" + string(row.x.Verdict) + "**"
	}
	return "❌ **" + string(row.x.Verdict) + "**"
}

func (row commentRow) why() string {
	why := plain(row.x.Reason)
	if row.waiver.Context != "" {
		why = "by " + cell(row.waiver.By) + ": " + plain(row.waiver.Reason)
	}
	if row.x.Optional {
		why = strings.TrimSpace("not required; " + why)
	}
	return why
}

// foldedRow is what a bad check said: what failed, and the end of its log. An
// indented block has no end but a line that is not indented, so nothing in it
// gets out.
func foldedRow(row commentRow) string {
	lines := badResults(row)
	if len(lines) > 0 && len(row.excerpt) > 0 {
		lines = append(lines, "")
	}
	for _, line := range row.excerpt[max(len(row.excerpt)-maxExcerpt, 0):] {
		lines = append(lines, oneLineOf(line, 500))
	}
	if len(lines) == 0 {
		return ""
	}
	return fmt.Sprintf("\n<details><summary>%s: what it said</summary>\n\n    %s\n\n</details>\n",
		strings.ReplaceAll(html.EscapeString(oneLineOf(row.name(), 200)), "@", "@\u200b"), strings.Join(lines, "\n    "))
}

// badResults are the results that are not good, one line each.
func badResults(row commentRow) []string {
	var lines []string
	for _, res := range row.results {
		if res.Outcome.Good() {
			continue
		}
		if len(lines) == maxCommentResults {
			return append(lines, "… and more")
		}
		line := string(res.Outcome) + " " + oneLineOf(res.Checkname, 200)
		if res.Note != "" && res.Note != row.x.Reason {
			line += ": " + oneLineOf(res.Note, 500)
		}
		lines = append(lines, line)
	}
	return lines
}

// commentFoot tells what the reader can do.
func commentFoot(rows []commentRow) string {
	foot := "\nTo have them run again, write `/assay rerun` or `/assay rerun failed` on the pull request; `/assay help` lists all commands."
	for _, row := range rows {
		if row.bad() && row.x.Path != "" {
			return foot + " The page of each check has the commands that run it on your own machine.\n"
		}
	}
	return foot + "\n"
}

func commentHeadline(rows []commentRow) string {
	bad, open := 0, 0
	for _, row := range rows {
		switch {
		case row.x.State != assay.StateFinished:
			open++
		case !row.good():
			bad++
		}
	}
	head := fmt.Sprintf("Assay: all %d checks passed now.", len(rows))
	if len(rows) == 1 {
		head = "Assay: the check passed now."
	}
	if bad > 0 || open > 0 {
		head = fmt.Sprintf("Assay: %d of %d checks did not pass.", bad, len(rows))
	}
	if open > 0 {
		head += fmt.Sprintf(" %d still to come.", open)
	}
	return head
}

// cell is code in a table, where a bar would end it.
func cell(s string) string {
	if s == "" {
		return ""
	}
	return strings.ReplaceAll(code(s), "|", `\|`)
}

// code quotes a name so that nothing in it is Markdown.
func code(s string) string {
	return "`" + strings.ReplaceAll(oneLineOf(s, 200), "`", "'") + "`"
}

// plain escapes text so that it is neither markup, nor a link, nor a mention.
func plain(s string) string {
	var b strings.Builder
	for _, r := range oneLineOf(s, 500) {
		switch r {
		case '\\', '`', '*', '_', '[', ']', '<', '>', '|', '#', '~', '&':
			b.WriteByte('\\')
		case '@':
			b.WriteString("@\u200b")
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
