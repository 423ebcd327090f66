package main

// Go puts /dev/null in the place of a stdout that was closed (>&-), before any of its code runs: only C is in time to
// see that what is written goes nowhere.

// #include <fcntl.h>
// static int closed;
// __attribute__((constructor)) static void look(void) { closed = fcntl(1, F_GETFD) < 0; }
// static int stdout_closed(void) { return closed; }
import "C"

// stdoutClosed reports whether the program was started without a stdout.
func stdoutClosed() bool { return C.stdout_closed() != 0 }
