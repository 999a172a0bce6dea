package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// pageSize is how many entries a page has that was asked for with this size.
func pageSize(asked int32) (int, error) {
	switch {
	case asked < 0:
		return 0, fmt.Errorf("page_size: %w: %d; send 0 for %d, or up to %d", ErrInvalid, asked, pageUsual, pageMost)
	case asked == 0:
		return pageUsual, nil
	}
	return min(int(asked), pageMost), nil
}

// tokenFor is a place in a list as a page token: the last entry that was sent, so what is added or goes meanwhile shifts
// no page.
func tokenFor(place any) string {
	raw, _ := json.Marshal(place) // strings and numbers: never fails
	return base64.RawURLEncoding.EncodeToString(raw)
}

// tokenOf reads what tokenFor wrote; the empty token is before all.
func tokenOf[T any](token string) (after *T, err error) {
	if token == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields() // another list's
		err = d.Decode(&after)
	}
	if err != nil || after == nil {
		return nil, fmt.Errorf("page_token: %w: it is not one of this call; send next_page_token of the page before, or none", ErrInvalid)
	}
	return after, nil
}
