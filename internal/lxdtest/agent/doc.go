// Command agent is the init of the containers of tests. In each it starts one
// process that connects to sockets for the test and hands the connections out.
//
//	/sbin/init               pid 1: starts "agent serve /run/agent.sock", reaps, ends by SIGPWR, SIGTERM, SIGINT or SIGRTMIN+3
//	agent serve PATH [UID]   accepts on PATH, as UID
//
// A client on PATH sends the path of a socket, as one packet, and is answered by one:
// the text of an error, or "ok" with the connection itself (SCM_RIGHTS).
// The packet "exit" ends the agent.
package main
