// A small SSH client on golang.org/x/crypto/ssh, for the end-to-end tests.
//
//	go_client -addr HOST:PORT -user ID -key FILE -known-hosts FILE exec COMMAND
//	go_client ... shell          a pty and a login shell, stdin and stdout passed on
//	go_client ... dial ADDRESS   a forwarded connection, stdin and stdout passed on
//	go_client ... local ADDRESS  listens here and leads there; writes where it listens
//	go_client ... listen ADDRESS TARGET  listens there and leads here; the same
//	go_client ... many N         N sessions at once on one connection
//
// An ADDRESS is HOST:PORT, or the path of a Unix socket. The exit status is the command's; a signal is written to stderr and gives 200.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, "go_client:", err)
	os.Exit(250)
}

func end(err error) {
	if err == nil {
		os.Exit(0)
	}
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		if exit.Signal() != "" {
			fmt.Fprintln(os.Stderr, "signal", exit.Signal())
			os.Exit(200)
		}
		os.Exit(exit.ExitStatus())
	}
	fail(err)
}

func network(address string) string {
	if strings.HasPrefix(address, "/") {
		return "unix"
	}
	return "tcp"
}

type half interface{ CloseWrite() error }

// lead joins what comes in to what connect gives, each direction to its own end.
func lead(listener net.Listener, connect func() (net.Conn, error)) {
	fmt.Println("listening", listener.Addr())
	for {
		from, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		go func() {
			defer from.Close()
			to, err := connect()
			if err != nil {
				fmt.Fprintln(os.Stderr, "go_client:", err)
				return
			}
			defer to.Close()
			done := make(chan bool, 2)
			pass := func(from, to net.Conn) {
				io.Copy(to, from)
				to.(half).CloseWrite()
				done <- true
			}
			go pass(from, to)
			go pass(to, from)
			<-done
			<-done
		}()
	}
}

func main() {
	addr := flag.String("addr", "", "HOST:PORT")
	user := flag.String("user", "", "user name")
	key := flag.String("key", "", "private key file")
	known := flag.String("known-hosts", "", "known_hosts file")
	flag.Parse()

	text, err := os.ReadFile(*key)
	if err != nil {
		fail(err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		fail(err)
	}
	check, err := knownhosts.New(*known)
	if err != nil {
		fail(err)
	}
	client, err := ssh.Dial("tcp", *addr, &ssh.ClientConfig{
		User:              *user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   check,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		Timeout:           20 * time.Second,
	})
	if err != nil {
		fail(err)
	}

	switch flag.Arg(0) {
	case "exec", "shell":
		session, err := client.NewSession()
		if err != nil {
			fail(err)
		}
		session.Stdin, session.Stdout, session.Stderr = os.Stdin, os.Stdout, os.Stderr
		if flag.Arg(0) == "exec" {
			end(session.Run(flag.Arg(1)))
		}
		if err := session.RequestPty("vt100", 30, 100, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
			fail(err)
		}
		if err := session.Shell(); err != nil {
			fail(err)
		}
		end(session.Wait())
	case "local":
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fail(err)
		}
		lead(listener, func() (net.Conn, error) { return client.Dial(network(flag.Arg(1)), flag.Arg(1)) })
	case "listen":
		listener, err := client.Listen(network(flag.Arg(1)), flag.Arg(1))
		if err != nil {
			fail(err)
		}
		lead(listener, func() (net.Conn, error) { return net.Dial(network(flag.Arg(2)), flag.Arg(2)) })
	case "dial":
		conn, err := client.Dial(network(flag.Arg(1)), flag.Arg(1))
		if err != nil {
			fail(err)
		}
		go func() {
			io.Copy(conn, os.Stdin)
			conn.(half).CloseWrite()
		}()
		if _, err := io.Copy(os.Stdout, conn); err != nil {
			fail(err)
		}
	case "many":
		count, err := strconv.Atoi(flag.Arg(1))
		if err != nil {
			fail(err)
		}
		answers := make(chan error, count)
		for i := 0; i < count; i++ {
			go func(i int) {
				session, err := client.NewSession()
				if err != nil {
					answers <- err
					return
				}
				defer session.Close()
				out, err := session.Output(fmt.Sprintf("echo answer %d", i))
				if err == nil && string(out) != fmt.Sprintf("answer %d\n", i) {
					err = fmt.Errorf("session %d got %q", i, out)
				}
				answers <- err
			}(i)
		}
		for i := 0; i < count; i++ {
			if err := <-answers; err != nil {
				fail(err)
			}
		}
		fmt.Println("all", count)
	default:
		fail(errors.New("exec, shell, dial, local, listen or many is needed"))
	}
}
