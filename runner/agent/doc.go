// Package agent is the SSH server that runs inside a machine and does what the
// host asks: it starts shell commands and carries their streams. It speaks the
// SSH protocol (RFC 4253, RFC 4254) on any byte stream, in a guest on its
// virtio-serial port, so that the same client serves machines with a stock
// sshd and those with this agent.
//
// Who holds the other end of the stream may do everything: there is no
// authentication, because the stream is the host's private socket. The guest's
// own processes are not trusted: what they print, how much, and how they fork
// is bounded, and none of it stops the agent from serving.
package agent
