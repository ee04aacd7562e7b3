package daemon

import (
	"reflect"
	"strings"
	"testing"
)

func TestForwardedDomains(t *testing.T) {
	got, err := Config{DNSForward: []string{"corp.example=10.0.0.53,10.0.0.54", "Corp.Example.=[fd00::53]:5353", "lan=192.168.1.1"}}.forward()
	want := map[string][]string{"corp.example": {"10.0.0.53", "10.0.0.54", "[fd00::53]:5353"}, "lan": {"192.168.1.1"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for text, want := range map[string]string{
		"corp.example":            "use DOMAIN=ADDRESS",
		"=10.0.0.53":              "every name",
		"corp.example=":           "not an address",
		"corp.example=dns.corp":   "not an address",
		"corp example=10.0.0.53":  "not a domain",
		"corp.example=10.0.0.53,": "not an address",
	} {
		if _, err := (Config{DNSForward: []string{text}}).forward(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}
