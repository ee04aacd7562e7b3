package overlaynet_test

import "github.com/dhow-project/dhow/overlaynet/nettest"

// The harness, by its short names.
var (
	inHost   = nettest.InHost
	must     = nettest.Must
	in       = nettest.In
	serve    = nettest.Serve
	ask      = nettest.Ask
	wantAsk  = nettest.WantAsk
	wantNone = nettest.WantNone
	outside  = nettest.Outside
	run      = nettest.Run
	until    = nettest.Until
)
