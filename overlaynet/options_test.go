package overlaynet

import (
	"maps"
	"slices"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func TestTheFileLoaderKnowsTheSameOptions(t *testing.T) {
	if got, want := stack.NetworkOptions, slices.Sorted(maps.Keys(networkOptions)); !slices.Equal(got, want) {
		t.Errorf("stack.NetworkOptions:\n%q\nhonoured:\n%q", got, want)
	}
	if got, want := stack.AttachmentOptions, []string{optIfname, optSysctls}; !slices.Equal(got, want) {
		t.Errorf("stack.AttachmentOptions: %q, honoured: %q", got, want)
	}
}
