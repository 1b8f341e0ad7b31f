package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

const (
	bodyBytes  = 256 << 10 // of a body that is shown: a larger one is not
	bodyShown  = 128 << 10 // of what that becomes when it is indented
	maxHeaders = 50

	indentBytes  = 4 << 20 // of a document that is indented
	indentNested = 32      // levels of it
)

// deliveryView is what an event was made from.
type deliveryView struct {
	Answer string // what the sender was told
	Note   string // why there is no body
	Header []dataView
	Body   string // "" when it is not to be shown
	Size   string
	Cut    bool // there is more than Body
}

// addDelivery adds to an event's page what only the inbox knows.
func (s *server) addDelivery(ctx context.Context, view *eventView, event assay.EventRecord) error {
	if s.Inbox == nil {
		return nil
	}
	entry, err := s.Inbox.InboxEntry(ctx, event.ID)
	if err != nil {
		return err
	}
	most := 0
	if s.ShowBodies {
		most = bodyBytes
	}
	header, body, size, err := s.Inbox.DeliveryPart(ctx, event.ID, most)
	if err != nil {
		return err
	}
	view.Again, view.Sent = entry.Repeats, s.showDelivery(header, body, size)
	view.Sent.Answer = answerWords(entry)
	return nil
}

// answerWords says what the sender was told. Nothing is told before the event is
// on disk, so that whatever is listed was taken.
func answerWords(e assay.InboxEntry) string {
	if e.Origin != assay.OriginDelivered {
		return "Nobody was waiting for an answer."
	}
	answer := "It was answered with 202 Accepted."
	if e.Ignored != "" {
		answer = "It was answered with 202 Accepted, and that nothing will be done about it."
	}
	if e.Repeats > 0 {
		answer += " When it came again the answer was that it is known."
	}
	return answer
}

func (s *server) showDelivery(header http.Header, body []byte, size64 int64) *deliveryView {
	view := &deliveryView{Size: size(size64), Header: showHeader(header)}
	switch {
	case size64 == 0 && len(header) == 0:
		view.Note = "Neither headers nor a body are here: there were none, or they were too old to be kept."
	case size64 == 0:
		view.Note = "It has no body, or that was too old to be kept."
	case !s.ShowBodies:
		view.Note = "Its body, " + view.Size + ", is not shown here: it can hold what is private. On the server, assay event show with --body prints it."
	case int64(len(body)) < size64:
		view.Note = "Its body, " + view.Size + ", is too large to be shown here. On the server, assay event show with --body prints it."
	default:
		if view.Body, view.Cut = showJSON(body); view.Body == "" {
			view.Note = "Its body, " + view.Size + ", is not JSON, and is not shown here. On the server, assay event show with --body prints it."
		}
	}
	return view
}

func showHeader(header http.Header) []dataView {
	var list []dataView
	for name, values := range header {
		list = append(list, dataView{clip(plain(name), 100), clip(plain(strings.Join(values, ", ")), 1024)})
	}
	slices.SortFunc(list, func(a, b dataView) int { return strings.Compare(a.Key, b.Key) })
	return list[:min(len(list), maxHeaders)]
}

// showJSON is a JSON document for people: indented, and cut where it is long;
// "" for what is none.
func showJSON(body []byte) (text string, cut bool) {
	if !json.Valid(body) {
		return "", false
	}
	body = IndentJSON(body)
	if cut = len(body) > bodyShown; cut {
		body = body[:bodyShown]
	}
	return lines(body), cut
}

// IndentJSON is a valid JSON document with an indented line for each value, or
// as it is where it is large or deep: indentation grows with the square of the
// depth, and a small document could become a hundred megabytes.
func IndentJSON(doc []byte) []byte {
	var b bytes.Buffer
	if len(doc) > indentBytes || depth(doc) > indentNested || json.Indent(&b, doc, "", "  ") != nil {
		return doc
	}
	return b.Bytes()
}

// depth is how deep the arrays and objects of a valid JSON document nest.
func depth(body []byte) (deepest int) {
	now, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++ // whatever comes next ends no string
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}
