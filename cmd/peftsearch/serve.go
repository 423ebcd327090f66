package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/studies/web"
)

func newServe(g *globals) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "serve [STUDY…]",
		Short: "Show studies on a page that follows them",
		Long: `Serve the page of peftsearch report while searches run: it shows what happens within a second. Without names
it has all studies of the database, those to come too. The page only shows, and nothing can be changed through it. It
is for this machine alone, unless --listen names another address; from another machine it is reached by the ssh command
that is printed.`,
		Example:           "  peftsearch serve\n  peftsearch serve my-study --listen 127.0.0.1:9000",
		ValidArgsFunction: g.completeStudies,
		RunE:              func(cmd *cobra.Command, args []string) error { return g.serve(cmd, args, listen) },
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8765", "address and port of the page; port 0 takes a free one")
	return cmd
}

func (g *globals) serve(cmd *cobra.Command, names []string, listen string) error {
	db, err := g.view()
	if err != nil {
		return err
	}
	defer db.Close()
	for _, name := range names {
		if _, err := db.Study(cmd.Context(), name); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		names = nil
	}
	line, err := net.Listen("tcp", listen)
	if err != nil {
		return usage("--listen 127.0.0.1:0 takes a free port", "%w", err)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), endings()...)
	defer stop()
	g.printAddress(cmd, line.Addr().(*net.TCPAddr))
	page := web.NewServer(db, names)
	var watching sync.WaitGroup
	watching.Go(func() { page.Watch(ctx) })
	server := &http.Server{Handler: page, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	watching.Go(func() {
		<-ctx.Done()
		server.Close()
	})
	err = server.Serve(line)
	stop()
	watching.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// printAddress says where the page is, and how it is reached from elsewhere.
func (g *globals) printAddress(cmd *cobra.Command, at *net.TCPAddr) {
	fmt.Fprintf(cmd.OutOrStdout(), "http://%s/\n", reachable(at))
	host, err := os.Hostname()
	switch {
	case g.quiet || err != nil:
	case at.IP.IsLoopback():
		fmt.Fprintf(
			cmd.ErrOrStderr(),
			"from another machine: ssh -N -L %d:%s %s, then http://localhost:%d/\nCtrl-C ends it\n",
			at.Port,
			at,
			host,
			at.Port,
		)
	default:
		fmt.Fprintln(cmd.ErrOrStderr(), "Warning: whoever reaches this address can read the studies; Ctrl-C ends it")
	}
}

// reachable is an address that opens what listens at one: for all addresses of this machine, one that others reach.
func reachable(at *net.TCPAddr) *net.TCPAddr {
	if !at.IP.IsUnspecified() {
		return at
	}
	own, _ := net.InterfaceAddrs() // without any there is the loopback
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return &net.TCPAddr{IP: n.IP, Port: at.Port}
		}
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.Port}
}
