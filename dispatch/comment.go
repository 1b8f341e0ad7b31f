package dispatch

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// commentRow is one check in the comment.
type commentRow struct {
	x       assay.Execution
	results []assay.Result // of a check that did not pass
	page    string
	waiver  assay.Waiver // zero for none
}

// good tells that the check is no trouble.
func (row commentRow) good() bool {
	return row.x.Verdict.Status() == assay.StatusSuccess || row.waiver.Context != ""
}

// open tells that the check has not ended.
func (row commentRow) open() bool { return row.x.State != assay.StateFinished }

// bad tells that the check has ended, and how.
func (row commentRow) bad() bool { return row.x.State == assay.StateFinished && !row.good() }

// maxCommentResults bounds how many failed results of a check are listed.
const maxCommentResults = 10

// renderComment is the comment's Markdown. It is read by people on a forge and
// as plain text in a git note, so it stays simple. Everything in it may come
// from a hostile check: it is quoted as code or escaped.
func renderComment(rows []commentRow) string {
	slices.SortStableFunc(rows, func(a, b commentRow) int {
		if a.good() != b.good() {
			if a.good() {
				return 1
			}
			return -1
		}
		return strings.Compare(a.x.StatusContext(), b.x.StatusContext())
	})
	var b strings.Builder
	b.WriteString(commentHeadline(rows))
	b.WriteString("\n")
	for _, row := range rows {
		b.WriteString(renderRow(row))
	}
	b.WriteString(commentFoot)
	return b.String()
}

// commentFoot tells what the reader can do.
const commentFoot = `
To have them run again, write "/assay rerun" or "/assay rerun failed" on the pull request; "/assay help" lists all
commands. To run a check yourself: clone the check repository, and assay run CHECK.
`

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

func renderRow(row commentRow) string {
	if row.waiver.Context != "" {
		return fmt.Sprintf("\n- %s: waived by %s: %s <%s>\n", code(row.x.Check), code(row.waiver.By), plain(row.waiver.Reason), row.page)
	}
	if row.x.State != assay.StateFinished {
		return fmt.Sprintf("\n- %s: %s <%s>\n", code(row.x.Check), row.x.State, row.page)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n- %s on %s: **%s**, %s <%s>\n", code(row.x.Check), code(row.x.Item), row.x.Verdict, plain(row.x.Reason), row.page)
	shown := 0
	for _, res := range row.results {
		if res.Outcome.Good() {
			continue
		}
		if shown++; shown > maxCommentResults {
			b.WriteString("  - … and more\n")
			break
		}
		fmt.Fprintf(&b, "  - %s %s", res.Outcome, code(res.Checkname))
		if res.Note != "" && res.Note != row.x.Reason {
			fmt.Fprintf(&b, ": %s", plain(res.Note))
		}
		b.WriteString("\n")
	}
	return b.String()
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
