package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/assay-ci/assay/runner"
)

// SelfTest proves that machines are used once: one leaves marks wherever
// something could survive, and the next one must not see any of them. A mark
// that is seen raises the alarm; every other error says that nothing was proved.
func (m *Machines) SelfTest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, selfTestTime)
	defer cancel()
	mark := uuid.NewString()
	if _, err := m.runOnce(ctx, "selftest-leave", fmt.Sprintf(leaveScript, mark)); err != nil {
		return fmt.Errorf("cannot prove that machines are kept apart: %w", err)
	}
	seen, err := m.runOnce(ctx, "selftest-look", fmt.Sprintf(lookScript, mark))
	if err != nil {
		return fmt.Errorf("cannot prove that machines are kept apart: %w", err)
	}
	if seen != "" {
		return m.alarm.raise("selftest", mark+" in "+seen)
	}
	return nil
}

// selfTestTime bounds the self-test: it may have to make a template first.
const selfTestTime = 10 * time.Minute

// The scripts of the self-test: marks on the disk, in memory, in the kernel's
// settings, in the environment of a process that goes on; and the search for them.
const (
	leaveScript = `mark=%[1]s
for dir in / /root /tmp /var/tmp /var/lib /run /dev/shm /etc; do echo $mark > $dir/assay-selftest-$mark; done
echo selftest-$(echo $mark | cut -c1-8) > /proc/sys/kernel/hostname
ASSAY_SELFTEST=$mark sleep 600 </dev/null >/dev/null 2>&1 &
sync`
	lookScript = `mark=%[1]s
for dir in / /root /tmp /var/tmp /var/lib /run /dev/shm /etc; do
	for file in $dir/assay-selftest-*; do [ -e "$file" ] && echo "$file"; done
done
case $(cat /proc/sys/kernel/hostname) in selftest-*) echo hostname;; esac
for pid in /proc/[0-9]*; do grep -aqs -e "$mark" $pid/environ && [ $pid != /proc/$$ ] && echo $pid; done
exit 0`
)

// runOnce runs a script in a machine of its own and returns what it printed.
func (m *Machines) runOnce(ctx context.Context, execution, script string) (said string, err error) {
	one, err := m.Boot(ctx, runner.Spec{Execution: execution})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, one.Close()) }()
	out := bounded{limit: maxProof}
	exit, err := one.Run(ctx, runner.Command{Argv: []string{"/bin/sh", "-c", script}, Dir: "/", Stdout: &out})
	if err == nil && exit != 0 {
		err = fmt.Errorf("the script of the self-test ended with %d", exit)
	}
	return strings.Join(strings.Fields(out.String()), " "), err
}
