package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/assay-ci/assay"
)

// The media types of CloudEvents (HTTP protocol binding 1.0.2, section 3).
const (
	cloudEvent      = "application/cloudevents+json"
	cloudEventBatch = "application/cloudevents-batch+json"
)

// BuildEventType is the "type" of a CloudEvent whose data is a build event.
const BuildEventType = "org.assay.build.v1"

// CloudEvents is the Source of build events that come as CloudEvents 1.0 over
// HTTP, in the structured or in the binary content mode, signed as build events
// are: X-Assay-Signature-256 over the body. Batches are refused.
//
// In the structured mode the whole event is signed. In the binary mode the
// attributes are headers (ce-id, ce-source, ce-type), which the signature does
// not cover: they only tell deliveries apart, together with the body, so that
// whoever changes them can neither make two builds of one nor one of two. What
// is built the body alone says.
//
// An event's Delivery is made of the source and the id, which are unique
// together (CloudEvents, "id"). "time" is when the build was, not when it was
// told, and no reason to refuse anything.
type CloudEvents struct{ signer }

// NewCloudEvents returns the source that takes CloudEvents signed with one of
// keys.
func NewCloudEvents(keys Keys) *CloudEvents { return &CloudEvents{newSigner(keys, headerSignature)} }

var _ Source = (*CloudEvents)(nil)

// ContentTypes lists what either mode comes as. Batches are among them to be
// refused in their own words.
func (*CloudEvents) ContentTypes() []string {
	return []string{cloudEvent, "application/json", cloudEventBatch}
}

// Delivery returns the sender's id of an event in the binary mode, unchecked.
func (*CloudEvents) Delivery(header http.Header) string { return header.Get("Ce-Id") }

// Decode returns one event. A type that is no build comes out ignored, with the
// type as its kind if that is short enough.
func (s *CloudEvents) Decode(header http.Header, body []byte) ([]assay.Event, error) {
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if kind == cloudEventBatch {
		return nil, errors.New("cannot take a batch of CloudEvents: send each in a request of its own")
	}
	var c cloudEnvelope
	var err error
	if kind == cloudEvent {
		c, err = structured(body)
	} else {
		c, err = binary(header, body)
	}
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the CloudEvent: %v", err)
	}
	e, err := c.event()
	if err != nil {
		return nil, fmt.Errorf("cannot read the data of the CloudEvent: %v", err)
	}
	return []assay.Event{e}, nil
}

// cloudEnvelope holds the attributes that count (CloudEvents 1.0.2, "Context
// Attributes").
type cloudEnvelope struct {
	version, id, source, kind string
	dataType                  string          // "" for JSON
	data                      json.RawMessage // nil for none
	unique                    string          // what else tells deliveries apart
}

// structured reads an event that is one JSON object (JSON event format 1.0.2).
// Attributes that it does not know are extensions, and left alone.
func structured(body []byte) (cloudEnvelope, error) {
	var c cloudEnvelope
	any := func(string) bool { return true }
	skip := func(json.RawMessage) error { return nil }
	encoded := func(json.RawMessage) error { return errors.New("must be left out: send the data as JSON") }
	err := readObject(body, []field{
		{name: "specversion", set: text(&c.version, any, "")},
		{name: "id", set: text(&c.id, any, "")},
		{name: "source", set: text(&c.source, any, "")},
		{name: "type", set: text(&c.kind, any, "")},
		{name: "datacontenttype", optional: true, set: unlessNull(text(&c.dataType, any, ""))},
		{name: "data_base64", optional: true, set: unlessNull(encoded)},
		{name: "data", optional: true, set: func(raw json.RawMessage) error { c.data = raw; return nil }},
		{optional: true, set: skip},
	})
	return c, err
}

// unlessNull leaves out what is null, as the format allows.
func unlessNull(set func(json.RawMessage) error) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		if string(raw) == "null" {
			return nil
		}
		return set(raw)
	}
}

// binary reads an event whose attributes are headers and whose data is the body
// (HTTP protocol binding, section 3.1). Headers are percent-encoded.
func binary(header http.Header, body []byte) (cloudEnvelope, error) {
	c := cloudEnvelope{dataType: header.Get("Content-Type"), data: body, unique: string(body)}
	for _, a := range []struct {
		name string
		to   *string
	}{{"Ce-Specversion", &c.version}, {"Ce-Id", &c.id}, {"Ce-Source", &c.source}, {"Ce-Type", &c.kind}} {
		given := header.Get(a.name)
		if given == "" {
			return c, fmt.Errorf("it has neither the media type %s nor the header %s", cloudEvent, a.name)
		}
		value, err := url.PathUnescape(given)
		if err != nil {
			return c, fmt.Errorf("the header %s is not percent-encoded: %s", a.name, quote(given))
		}
		*a.to = value
	}
	return c, nil
}

func (c cloudEnvelope) check() error {
	switch {
	case c.version != "1.0":
		return fmt.Errorf("\"specversion\" must be 1.0, not %s", quote(c.version))
	case !validText(c.id, maxAddress):
		return fmt.Errorf("\"id\" must be a line of text, not %s", quote(c.id))
	case !validText(c.source, maxAddress):
		return fmt.Errorf("\"source\" must be a URI reference, not %s", quote(c.source))
	case !validText(c.kind, maxAddress):
		return fmt.Errorf("\"type\" must be a line of text, not %s", quote(c.kind))
	}
	return nil
}

// event reads the data of a build.
func (c cloudEnvelope) event() (assay.Event, error) {
	if c.kind != BuildEventType {
		return c.idle(), nil
	}
	if c.data == nil {
		return assay.Event{}, errors.New("it is missing")
	}
	if kind, _, err := mime.ParseMediaType(c.dataType); c.dataType != "" && (err != nil || kind != "application/json") {
		return assay.Event{}, fmt.Errorf("its type must be application/json, not %s", quote(c.dataType))
	}
	e, err := readBuild(c.data)
	e.Delivery = c.delivery()
	return e, err
}

// idle is an event that starts nothing. CDEvents have one that a build finished,
// but it names no more than the artifact (CDEvents 0.4, "build finished").
func (c cloudEnvelope) idle() assay.Event {
	e := assay.Event{Kind: "cloudevent", Trusted: true, Delivery: c.delivery()}
	if madeOf(c.kind, alnum, idChars, 64) {
		e.Kind = assay.EventKind(c.kind)
	}
	e.Ignored = fmt.Sprintf("the type %s starts no checks: builds have the type %s", quote(c.kind), BuildEventType)
	if strings.HasPrefix(c.kind, "dev.cdevents.") {
		e.Ignored = "a CDEvent says neither version nor commit of a build: send one of the type " + BuildEventType
	}
	return e
}

// delivery is the event's id if it is fit to be shown, and a digest of what tells
// it from others.
func (c cloudEnvelope) delivery() string {
	sum := meaning("", c.source, c.id, c.unique)[:32]
	if !madeOf(c.id, alnum, idChars, maxName-len(sum)-1) {
		return sum
	}
	return c.id + "." + sum
}
