package webhook

import (
	"fmt"
	"net/http"
)

// Headers of the sources that are Assay's own.
const (
	headerDelivery  = "X-Assay-Delivery"
	headerSignature = "X-Assay-Signature-256"
)

// ownHeaders is what the sources with Assay's own headers have in common.
type ownHeaders struct{ signer }

func newOwnHeaders(keys Keys) ownHeaders {
	return ownHeaders{newSigner(keys, headerSignature)}
}

// Delivery returns the sender's id of the delivery, unchecked.
func (ownHeaders) Delivery(header http.Header) string { return header.Get(headerDelivery) }

// delivery returns the id, which must be there: without it a delivery that is
// sent again could not be told from a new one.
func (o ownHeaders) delivery(header http.Header) (string, error) {
	id := o.Delivery(header)
	if id == "" {
		return "", fmt.Errorf("cannot take the delivery: it has no %s header: give each event an id and repeat it when you send the event again", headerDelivery)
	}
	if !validID(id) {
		return "", fmt.Errorf("cannot take the delivery: the %s header must be %s, not %s", headerDelivery, wantID, quote(id))
	}
	return id, nil
}

const wantID = "1 to 128 letters, digits and . _ : -"
