package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/sshconn"
	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// TestGoOn goes on with an agent's handshake on what another client began.
func TestGoOn(t *testing.T) {
	server, err := agent.NewServer(agent.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := sshtest.Pair(t)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(context.WithoutCancel(t.Context()), theirs) }) // it says how we left
	t.Cleanup(serving.Wait)
	greeting, err := greet(ours)
	if err != nil {
		t.Fatal(err)
	}
	conn, channels, requests, err := ssh.NewClientConn(goOn(ours, greeting), "", clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	guest := sshconn.New(ssh.NewClient(conn, channels, requests), sshconn.Options{Dir: "/", Direct: true})
	var out bytes.Buffer
	if exit, err := guest.Run(t.Context(), runner.Command{Argv: []string{"/bin/echo", "here"}, Dir: "/", Stdout: &out}); exit != 0 || err != nil || out.String() != "here\n" {
		t.Errorf("got %d, %v: %q", exit, err, out.String())
	}
	if err := guest.Close(); err != nil {
		t.Error(err)
	}
}

func TestResumedWritesTheRest(t *testing.T) {
	ours, theirs := sshtest.Pair(t)
	conn := goOn(ours, []byte("heard"))
	for _, part := range []string{"SSH-", clientVersion[4:] + "\r", "\nfirst", " second"} {
		if n, err := io.WriteString(conn, part); n != len(part) || err != nil {
			t.Errorf("%q: %d, %v", part, n, err)
		}
	}
	if err := ours.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(theirs); string(got) != "first second" || err != nil {
		t.Errorf("the peer heard %q, %v", got, err)
	}
	if _, err := io.WriteString(theirs, ", and more"); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "heard, and more" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// words is a peer that says what it says whatever it hears.
type words struct {
	io.Reader
	io.Writer
}

func offer(size uint32, packet string) string {
	return "SSH-2.0-x\r\n" + string(binary.BigEndian.AppendUint32(nil, size)) + packet
}

func TestGreetRefuses(t *testing.T) {
	for name, said := range map[string]string{
		"nothing":      "",
		"no end":       strings.Repeat("x", maxVersion+1),
		"no packet":    "SSH-2.0-x\r\n",
		"no size":      "SSH-2.0-x\r\n\x00\x00",
		"empty packet": offer(0, ""),
		"huge packet":  offer(1<<31, strings.Repeat("x", 1<<10)),
		"cut packet":   offer(10, "\x04\x14x"),
		"other packet": offer(3, "\x04\x15x"),
	} {
		if got, err := greet(words{strings.NewReader(said), io.Discard}); err == nil {
			t.Errorf("%s: took %q", name, got)
		}
	}
	good := offer(3, "\x04\x14x")
	var heard bytes.Buffer
	if got, err := greet(words{strings.NewReader(good + "more"), &heard}); string(got) != good || err != nil || heard.String() != clientVersion+"\r\n" {
		t.Errorf("got %q, %v, having said %q", got, err, heard.String())
	}
}

func FuzzGreet(f *testing.F) {
	f.Add([]byte(offer(3, "\x04\x14x")))
	f.Add([]byte(offer(1<<31, "x")))
	f.Fuzz(func(t *testing.T, said []byte) {
		got, err := greet(words{bytes.NewReader(said), io.Discard})
		if err == nil && (!bytes.HasPrefix(said, got) || len(got) > maxVersion+4+maxPacket) {
			t.Errorf("took %q", got)
		}
	})
}
