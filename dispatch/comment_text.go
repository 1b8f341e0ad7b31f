package dispatch

import (
	"fmt"
	"strings"

	"github.com/assay-ci/assay"
)

// PlainText is a Forge whose comments are read as they are, without a browser.
type PlainText interface{ PlainText() bool }

// renderText is the comment for who reads plain text: a git note. It is escaped
// like Markdown all the same, since somebody may show notes on a page.
func renderText(rows []commentRow) string {
	sortRows(rows)
	var b strings.Builder
	b.WriteString(commentHeadline(rows))
	b.WriteString("\n")
	for _, row := range rows {
		b.WriteString(renderRow(row))
	}
	b.WriteString("\nThe page of each check has the commands that run it on your own machine.\n")
	return b.String()
}

func renderRow(row commentRow) string {
	if row.waiver.Context != "" {
		return fmt.Sprintf("\n- %s: waived by %s: %s <%s>\n", code(row.name()), code(row.waiver.By), plain(row.waiver.Reason), row.page)
	}
	if row.x.State != assay.StateFinished {
		return fmt.Sprintf("\n- %s: %s <%s>\n", code(row.name()), row.x.State, row.page)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n- %s on %s: **%s**, %s <%s>\n", code(row.name()), code(row.x.Item), row.x.Verdict, plain(row.x.Reason), row.page)
	for _, line := range badResults(row) {
		fmt.Fprintf(&b, "  - %s\n", plain(line))
	}
	return b.String()
}
