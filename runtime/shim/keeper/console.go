package keeper

import "syscall"

// console is the socket on which the runtime hands over a terminal.
type console struct {
	fd, dir int
	file    string // in the shim's directory
	path    string // the same, short enough for a socket address
}

// openConsole makes the socket. Its address goes through our descriptor of the
// directory: a socket's path may have 107 bytes only.
func (k *keeper) openConsole(name string) (*console, error) {
	dir, err := syscall.Open(k.cfg.Dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		syscall.Close(dir)
		return nil, err
	}
	c := &console{fd: fd, dir: dir, file: k.cfg.Dir + "/" + name + ".sock"}
	c.path = "/proc/" + itoa(syscall.Getpid()) + "/fd/" + itoa(dir) + "/" + name + ".sock"
	syscall.Unlink(c.file)
	if err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: c.path}); err == nil {
		err = syscall.Listen(fd, 1)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// receive takes the master, which the runtime has sent before it ended.
func (c *console) receive() (int, error) {
	peer, _, err := syscall.Accept4(c.fd, syscall.SOCK_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(peer)
	if err := syscall.SetsockoptTimeval(peer, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 5}); err != nil {
		return -1, err
	}
	var b [256]byte
	oob := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := syscall.Recvmsg(peer, b[:], oob, syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) == 0 {
		return -1, syscall.EBADMSG
	}
	fds, err := syscall.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return -1, syscall.EBADMSG
	}
	return fds[0], nil
}

func (c *console) close() {
	if c == nil {
		return
	}
	syscall.Close(c.fd)
	syscall.Close(c.dir)
	syscall.Unlink(c.file)
}
