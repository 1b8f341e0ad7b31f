package fetchtest

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// fault is the hub's "no".
type fault struct {
	code int
	text string
}

// call answers the methods that are asked for, with Koji's own arguments; the
// error is the client's mistake.
func (s *Server) call(method string, params []any) (any, error) {
	named := map[string]any{}
	if n := len(params); n > 0 {
		if m, ok := params[n-1].(map[string]any); ok && m["__starstar"] == true {
			named, params = maps.Clone(m), params[:n-1]
			delete(named, "__starstar")
		}
	}
	switch method {
	case "getBuild":
		return s.getBuild(params, named)
	case "listRPMs":
		return s.listRPMs(params, named)
	case "listTagged":
		return s.listTagged(params, named)
	}
	return nil, fmt.Errorf("the hub has no method %q", method)
}

func (s *Server) getBuild(params []any, named map[string]any) (any, error) {
	if len(params) != 1 || len(named) != 0 {
		return nil, fmt.Errorf("getBuild%v %v: one argument is taken", params, named)
	}
	name, ok := params[0].(string)
	if !ok {
		return nil, fmt.Errorf("getBuild%v: it is no text", params)
	}
	if b := s.Builds[name]; b != nil {
		return b.info(), nil
	}
	return nil, nil
}

func (b *Build) info() map[string]any {
	return map[string]any{
		"id": b.ID, "build_id": b.ID, "name": b.Name, "package_name": b.Name, "version": b.Version, "release": b.Release,
		"epoch": nil, "nvr": b.Name + "-" + b.Version + "-" + b.Release, "state": b.State, "volume_name": "DEFAULT",
		"completion_ts": 1700000000.5,
	}
}

func (s *Server) listRPMs(params []any, named map[string]any) (any, error) {
	id, ok := named["buildID"].(int64)
	if len(params) != 0 || len(named) != 1 || !ok {
		return nil, fmt.Errorf("listRPMs%v %v: only buildID is taken", params, named)
	}
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(s.Builds)) {
		b := s.Builds[name]
		if b.ID != id {
			continue
		}
		for i, r := range b.RPMs {
			list = append(list, r.info(b, int64(i)))
		}
	}
	return list, nil
}

func (r RPM) info(b *Build, number int64) map[string]any {
	size, sum := r.Size, r.MD5
	if size == 0 {
		size = int64(len(r.Data))
	}
	if sum == "" {
		sum = RPMSum(r.Data)
	}
	return map[string]any{
		"id": 5000 + number, "build_id": b.ID, "name": r.Name, "version": r.version(b), "release": b.Release, "arch": r.Arch,
		"epoch": nil, "size": size, "payloadhash": sum, "nvr": r.Name + "-" + r.version(b) + "-" + b.Release, "metadata_only": false,
	}
}

func (r RPM) version(b *Build) string {
	if r.Version != "" {
		return r.Version
	}
	return b.Version
}

func (s *Server) listTagged(params []any, named map[string]any) (any, error) {
	if len(params) != 1 {
		return nil, fmt.Errorf("listTagged%v: the tag is its one positional argument", params)
	}
	tag, _ := params[0].(string)
	names, ok := s.Tags[tag]
	if !ok {
		return fault{1000, "No such tagInfo: '" + tag + "'"}, nil
	}
	pkg, _ := named["package"].(string)
	list := []any{}
	for _, name := range names {
		if b := s.Builds[name]; b != nil && (pkg == "" || b.Name == pkg) {
			list = append(list, b.info())
		}
	}
	if named["latest"] == true && len(list) > 1 {
		list = list[len(list)-1:]
	}
	return list, nil
}

// signatureSize is where the header begins in what RPMFile makes.
const signatureSize = 96 + 16 + 16 + 16

// RPMFile makes a file that is an RPM package as far as its outermost parts go:
// lead, signature header with an MD5 sum, and the content as header and payload.
func RPMFile(content string) []byte {
	lead := make([]byte, 96)
	copy(lead, "\xed\xab\xee\xdb\x03\x00")
	intro := make([]byte, 16)
	copy(intro, "\x8e\xad\xe8\x01")
	binary.BigEndian.PutUint32(intro[8:], 1)
	binary.BigEndian.PutUint32(intro[12:], 16)
	tag := make([]byte, 16)
	binary.BigEndian.PutUint32(tag[0:], 1004) // SIGMD5
	binary.BigEndian.PutUint32(tag[4:], 7)    // binary
	binary.BigEndian.PutUint32(tag[12:], 16)
	sum := md5.Sum([]byte(content))
	return slices.Concat(lead, intro, tag, sum[:], []byte(content))
}

// RPMSum is the sum that Koji knows of what RPMFile made; "" for anything else.
func RPMSum(data []byte) string {
	if len(data) < signatureSize {
		return ""
	}
	sum := md5.Sum(data[signatureSize:])
	return hex.EncodeToString(sum[:])
}
