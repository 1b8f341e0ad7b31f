package agent

import "golang.org/x/sys/unix"

// modeCharacters has the place of each control character, by its code in RFC
// 4254, section 8.
func modeCharacters() map[byte]int {
	return map[byte]int{
		1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL,
		7: unix.VEOL2, 8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT,
		13: unix.VWERASE, 14: unix.VLNEXT, 18: unix.VDISCARD,
	}
}

// modeFlag is one bit of a terminal's settings.
type modeFlag struct {
	field *uint32
	bit   uint32
}

// modeFlags has the bit of each flag in the settings, by its code in RFC 4254,
// section 8, and for IUTF8 in RFC 8160.
func modeFlags(settings *unix.Termios) map[byte]modeFlag {
	flags := map[byte]modeFlag{}
	for _, part := range []struct {
		field *uint32
		bits  map[byte]uint32
	}{
		{&settings.Iflag, map[byte]uint32{
			30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR,
			36: unix.ICRNL, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
		}},
		{&settings.Lflag, map[byte]uint32{
			50: unix.ISIG, 51: unix.ICANON, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK, 56: unix.ECHONL,
			57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE,
		}},
		{&settings.Oflag, map[byte]uint32{
			70: unix.OPOST, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
		}},
	} {
		for code, bit := range part.bits {
			flags[code] = modeFlag{part.field, bit}
		}
	}
	return flags
}
