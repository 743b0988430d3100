package rival_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"devlxd/bench/rival"
)

// The environment variables that make this program a helper of the tests.
const (
	envServe = "DEVLXD_TEST_RIVAL_SERVE" // a rival, on the socket that envSocket names
	envGuest = "DEVLXD_TEST_RIVAL_GUEST" // a guest that asks for the path in it
	// envFork has the guest start another one, so that the walk has a parent to go to.
	envFork   = "DEVLXD_TEST_RIVAL_FORK"
	envSocket = "DEVLXD_TEST_RIVAL_SOCKET"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(envServe); kind != "" {
		if err := rival.Main(context.Background(), rival.Kind(kind), os.Getenv(envSocket)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(envGuest) != "" {
		os.Exit(guest())
	}
	goleak.VerifyTestMain(m,
		// These libraries start a goroutine for the life of the process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// guest is the process of a container. It waits for a line, asks, prints the answer, and waits for the end of its input.
func guest() int {
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return 0
	}
	if os.Getenv(envFork) != "" {
		if err := forkGuest(); err != nil {
			fmt.Println("error", err)
		}
	} else {
		fmt.Println(ask(os.Getenv(envSocket), os.Getenv(envGuest)))
	}
	_, _ = in.ReadString('\n')
	return 0
}

// ask returns status and body of one request on a connection of its own.
func ask(socket, path string) string {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	return askOn(conn, path)
}

func askOn(conn net.Conn, path string) string {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: lxd\r\n\r\n", path); err != nil {
		return err.Error()
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %q", resp.StatusCode, body)
}
