package image

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
)

// IgnitionKey is the name under which QEMU's firmware configuration device
// (fw_cfg) gives a config to Ignition (Ignition, "Supported Platforms": qemu).
const IgnitionKey = "opt/com.coreos/config"

// The parts of Ignition's configuration, specification 3.0.0, that are used.
type ignition struct {
	Ignition struct {
		Version string `json:"version"`
	} `json:"ignition"`
	Storage struct {
		Files []ignitionFile `json:"files"`
	} `json:"storage"`
	Systemd struct {
		Units []ignitionUnit `json:"units"`
	} `json:"systemd"`
}

type ignitionFile struct {
	Path      string          `json:"path"`
	Mode      int             `json:"mode"`
	Overwrite bool            `json:"overwrite"`
	Contents  ignitionContent `json:"contents"`
}

type ignitionContent struct {
	Compression string `json:"compression,omitempty"`
	Source      string `json:"source"`
}

type ignitionUnit struct {
	Name     string `json:"name"`
	Enabled  bool   `json:"enabled,omitempty"`
	Mask     bool   `json:"mask,omitempty"`
	Contents string `json:"contents,omitempty"`
}

// Ignition makes the configuration with which a CoreOS image does what others do
// with a seed; the agent is inside, compressed. It is JSON of some megabytes for
// the file that QEMU's fw_cfg shows as IgnitionKey. InstanceID means nothing here.
func Ignition(seed Seed) ([]byte, error) {
	seed, err := seed.check()
	if err != nil {
		return nil, err
	}
	agent, err := os.ReadFile(seed.Agent)
	if err != nil {
		return nil, fmt.Errorf("cannot read the agent: %w", err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(agent) // into memory: it cannot fail
	_ = z.Close()
	var config ignition
	config.Ignition.Version = "3.0.0"
	config.Storage.Files = []ignitionFile{
		{Path: agentPath, Mode: 0o755, Overwrite: true, Contents: ignitionContent{
			Compression: "gzip", Source: "data:;base64," + base64.StdEncoding.EncodeToString(packed.Bytes()),
		}},
		{Path: "/etc/hostname", Mode: 0o644, Overwrite: true, Contents: ignitionContent{
			Source: "data:," + url.PathEscape(seed.Hostname+"\n"),
		}},
	}
	config.Systemd.Units = []ignitionUnit{{Name: "assay-agent.service", Enabled: true, Contents: agentUnit()}}
	for _, name := range seed.masked() {
		config.Systemd.Units = append(config.Systemd.Units, ignitionUnit{Name: name, Mask: true})
	}
	return json.Marshal(config)
}
