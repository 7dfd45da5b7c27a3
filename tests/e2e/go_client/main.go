// A small SSH client on golang.org/x/crypto/ssh, for the end-to-end tests.
//
//	go_client -addr HOST:PORT -user ID -key FILE -known-hosts FILE exec COMMAND
//	go_client ... shell          a pty and a login shell, stdin and stdout passed on
//	go_client ... dial HOST:PORT a direct-tcpip channel, stdin and stdout passed on
//	go_client ... many N         N sessions at once on one connection
//
// The exit status is the command's; a signal is written to stderr and gives 200.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
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
	case "dial":
		conn, err := client.Dial("tcp", flag.Arg(1))
		if err != nil {
			fail(err)
		}
		go func() {
			io.Copy(conn, os.Stdin)
			conn.(interface{ CloseWrite() error }).CloseWrite()
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
		fail(errors.New("exec, shell, dial or many is needed"))
	}
}
