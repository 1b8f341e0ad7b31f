package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// WakeRequest is the name of the global request (RFC 4254, section 4) that
// tells a machine which was frozen and woken again, perhaps many times over,
// who and when it is. Its payload is a Wake in SSH's encoding, made with
// Wake.Marshal. It is answered when everything is done, with the canary that was
// there before (see Canary); a refusal carries the reason as text.
const WakeRequest = "wake@assay"

// FreezeRequest is the name of the global request that tells a machine that it is
// about to be frozen. What its forks would all have to do it does now, and it
// writes to the disk what is not there yet. It has no payload; a refusal carries
// the reason as text.
const FreezeRequest = "freeze@assay"

// Wake makes a woken machine itself again.
type Wake struct {
	Time      time.Time // to set the clock to; zero leaves it
	Seed      []byte    // random bytes, 32 to 4,096, that no other machine is given
	Hostname  string    // "" keeps it
	MachineID string    // machine-id(5): 32 lower-case hex digits; "" keeps it
	Canary    string    // the machine's own mark, at most 64 letters, digits and hyphens; "" leaves what is there
}

// wakeMessage is a Wake on the wire.
type wakeMessage struct {
	UnixNano  uint64
	Seed      []byte
	Hostname  string
	MachineID string
	Canary    string
}

// Marshal is the payload of a WakeRequest.
func (w Wake) Marshal() []byte {
	message := wakeMessage{Seed: w.Seed, Hostname: w.Hostname, MachineID: w.MachineID, Canary: w.Canary}
	if !w.Time.IsZero() {
		message.UnixNano = uint64(w.Time.UnixNano())
	}
	return ssh.Marshal(message)
}

// ParseWake reads the payload of a WakeRequest.
func ParseWake(payload []byte) (Wake, error) {
	var message wakeMessage
	if err := ssh.Unmarshal(payload, &message); err != nil {
		return Wake{}, fmt.Errorf("cannot read the wake request: %w", err)
	}
	wake := Wake{Seed: message.Seed, Hostname: message.Hostname, MachineID: message.MachineID, Canary: message.Canary}
	if message.UnixNano > 0 {
		wake.Time = time.Unix(0, int64(message.UnixNano))
	}
	return wake, wake.check()
}

func (w Wake) check() error {
	switch {
	case len(w.Seed) < 32 || len(w.Seed) > 4096:
		return errors.New("cannot wake with such a seed: it must have 32 to 4,096 bytes")
	case len(w.Hostname) > 64 || strings.Trim(strings.ToLower(w.Hostname), "abcdefghijklmnopqrstuvwxyz0123456789-.") != "":
		return errors.New("cannot wake with such a host name: it must have at most 64 letters, digits, dots and hyphens")
	case w.MachineID != "" && (len(w.MachineID) != 32 || strings.Trim(w.MachineID, "0123456789abcdef") != ""):
		return errors.New("cannot wake with such a machine id: it must have 32 lower-case hex digits")
	case len(w.Canary) > 64 || strings.Trim(strings.ToLower(w.Canary), "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return errors.New("cannot wake with such a canary: it must have at most 64 letters, digits and hyphens")
	}
	return nil
}

func (s *Server) freeze() (bool, []byte) {
	if s.options.Canary != nil {
		if err := s.options.Canary.Prepare(); err != nil {
			return false, []byte(err.Error())
		}
	}
	s.options.Groups.prepare()
	unix.Sync()
	return true, nil
}

func (s *Server) wake(payload []byte) (bool, []byte) {
	wake, err := ParseWake(payload)
	if err == nil {
		err = s.options.Wake(wake)
	}
	var seen string
	if err == nil && wake.Canary != "" && s.options.Canary != nil {
		seen, err = s.options.Canary.Swap(wake.Canary)
	}
	if err != nil {
		return false, []byte(err.Error())
	}
	return true, []byte(seen)
}

// Apply makes this machine what w says, but for the canary. It needs root.
func (w Wake) Apply() error {
	if err := reseed("/dev/urandom", w.Seed); err != nil {
		return err
	}
	if !w.Time.IsZero() {
		now := unix.NsecToTimespec(w.Time.UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			return fmt.Errorf("cannot set the clock: %w", err)
		}
	}
	if w.Hostname != "" {
		if err := unix.Sethostname([]byte(w.Hostname)); err != nil {
			return fmt.Errorf("cannot set the host name: %w", err)
		}
	}
	if err := w.identify("/"); err != nil || w.MachineID == "" {
		return err
	}
	return renewKeys("/etc/ssh") // another machine has other keys
}

// identify writes the names that programs read from files below root.
func (w Wake) identify(root string) error {
	for name, text := range map[string]string{"etc/hostname": w.Hostname, "etc/machine-id": w.MachineID} {
		if text == "" {
			continue
		}
		f, err := os.OpenFile(filepath.Join(root, name), os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			err = errors.Join(overwrite(f, text+"\n"), f.Close())
		}
		if err != nil {
			return fmt.Errorf("cannot tell the machine its name: %w", err)
		}
	}
	return nil
}

// overwrite gives a file another content where the old one lies. To empty it
// first would have the file system look for a new place, and write at once: in a
// fork, whose emulator translates each program anew, that takes as long as all
// else that waking does.
func overwrite(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil || info.Size() <= int64(len(text)) {
		return err
	}
	return f.Truncate(int64(len(text)))
}

// reseed mixes seed into the kernel's random pool as real entropy and makes the
// generator start anew from the pool (random(4), RNDADDENTROPY, RNDRESEEDCRNG).
func reseed(device string, seed []byte) error {
	file, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot reseed the random pool: %w", err)
	}
	defer func() { _ = file.Close() }() // nothing is buffered
	// struct rand_pool_info: bits of entropy, bytes that follow, the bytes.
	info := make([]uint32, 2+(len(seed)+3)/4)
	info[0], info[1] = uint32(len(seed)*8), uint32(len(seed))
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&info[2])), len(seed)), seed)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return fmt.Errorf("cannot add to the random pool: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), unix.RNDRESEEDCRNG, 0); errno != 0 {
		return fmt.Errorf("cannot restart the random generator: %w", errno)
	}
	return nil
}
