package watch

import (
	"encoding/json"
	"fmt"
	"time"
)

// progress is how far the deliveries of a hook have been read.
type progress struct {
	Version int  `json:"version"`
	Begun   bool `json:"begun"` // a first listing is done
	// Floor is the newest delivery of the first listing: what that left is left.
	Floor int64 `json:"floor"`
	// All deliveries up to here are in the inbox, or cannot be had any more.
	Until mark `json:"until"`
	// A listing that was too long for one reading goes on at Page; when it is done
	// Until becomes Top. "" for none.
	Page string `json:"page,omitempty"`
	Top  mark   `json:"top"`
}

// mark is a place among deliveries: the newest one that counts.
type mark struct {
	ID int64     `json:"id"`
	At time.Time `json:"at"`
}

// readProgress parses what encode wrote; "" is the beginning.
func readProgress(text string) (p progress, err error) {
	if text == "" {
		return progress{Version: memoryVersion}, nil
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return progress{}, fmt.Errorf("cannot read how far its deliveries were read: %v: remove that row from the table memories", err)
	}
	if p.Version != memoryVersion {
		return progress{}, fmt.Errorf("cannot read how far its deliveries were read: it is of version %d and this program knows %d: run a newer assay", p.Version, memoryVersion)
	}
	return p, nil
}

func (p progress) encode() (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("cannot write down how far its deliveries were read: %v", err)
	}
	return string(text), nil
}

// covers tells whether a delivery, and with it all older ones, need not be looked
// at again. Forges that give times are read a little further back: their lists
// may be late.
func (m mark) covers(d Delivery) bool {
	if !d.At.IsZero() && !m.At.IsZero() {
		return d.At.Before(m.At.Add(-progressOverlap))
	}
	return m.ID > 0 && d.ID <= m.ID
}

// with is the newer of the mark and the delivery.
func (m mark) with(d Delivery) mark {
	if d.ID > m.ID {
		m.ID = d.ID
	}
	if d.At.After(m.At) {
		m.At = d.At
	}
	return m
}
