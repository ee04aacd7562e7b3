package overlaynet_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// On hosts whose other firewalls drop what is forwarded, as Docker and ufw
// leave them, containers work all the same, also after those have written
// their rules anew; and nothing of ours stays in theirs.
func TestBesideOtherFirewalls(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	n := newNode(t, t.TempDir(), newSource(dualNet("front", 1), stack.Network{Name: "named", Subnets: []stack.Subnet{{CIDR: "10.70.9.0/24"}}, DriverOpts: map[string]string{"com.docker.network.bridge.name": "br-shop"}}))
	serve(t, out, "world", "tcp", ":80")
	docker := "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -i docker0 -j ACCEPT"
	firewalld := "nft 'add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10; policy accept; }; add rule inet firewalld filter_FORWARD ct state established,related accept; add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited'"
	strict := "nft 'add table inet filter; add chain inet filter forward { type filter hook forward priority 0; policy drop; }'"
	run(t, "sh", "-c", docker+"; "+firewalld+"; "+strict)
	theirs := run(t, "nft", "-s", "list", "ruleset")

	web := n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("front"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	other := n.connect(overlaynet.Sandbox{ID: "other", Attachments: on("named")})
	serve(t, web.NetNS, "web", "tcp", ":80")
	good := func(what string) {
		t.Helper()
		wantAsk(t, what, out, "tcp", "192.0.2.1:8080", "web 192.0.2.9")
		wantAsk(t, what, out, "tcp", "[2001:db8::1]:8080", "web 2001:db8::9")
		wantAsk(t, what, web.NetNS, "tcp", "192.0.2.9:80", "world 192.0.2.1")
		wantAsk(t, what, web.NetNS, "tcp", "[2001:db8::9]:80", "world 2001:db8::1")
		wantAsk(t, what, other.NetNS, "tcp", "192.0.2.9:80", "world 192.0.2.1")
		wantNone(t, what+": networks are apart", other.NetNS, "tcp", ip(web, 0)+":80")
	}
	good("at first")
	for _, tool := range []string{"iptables -S FORWARD", "ip6tables -S FORWARD", "iptables-save"} {
		if got := run(t, "sh", "-c", tool); !strings.Contains(got, "-j ACCEPT") {
			t.Errorf("%s does not read its own table any more:\n%s", tool, got)
		}
	}
	run(t, "sh", "-c", "iptables -F FORWARD; nft flush chain inet filter forward; nft flush chain inet firewalld filter_FORWARD; nft add rule inet firewalld filter_FORWARD reject")
	until(t, "let through again", func() bool {
		got := run(t, "nft", "list", "ruleset")
		return strings.Count(got, `iifname "br-shop" counter`) == 4 && strings.Count(got, `oifname "br-shop" counter`) == 4
	})
	good("after their rules were flushed")
	before := n.writes()
	_, err := n.rules.Check(context.Background())
	must(t, err)
	if k := n.writes() - before; k != 0 {
		t.Errorf("%d writes when nothing is wrong", k)
	}
	run(t, "sh", "-c", "nft flush ruleset; "+docker+"; "+firewalld+"; "+strict)
	until(t, "let through again", func() bool { return strings.Count(run(t, "nft", "list", "ruleset"), `"br-shop" counter`) == 8 })
	until(t, "our table is back", func() bool { return strings.Contains(run(t, "nft", "list", "ruleset"), "tcp . 8080") })
	good("after everything was flushed")

	must(t, n.Set(context.Background(), overlaynet.Config{}))
	if got := run(t, "nft", "-s", "list", "ruleset"); got != theirs {
		t.Errorf("left\n%s\nwant\n%s", got, theirs)
	}
}

// What only the older iptables says is told, with the command that helps.
func TestOldIptablesIsTold(t *testing.T) {
	if !inHost(t) {
		return
	}
	run(t, "sh", "-c", "iptables-legacy -P FORWARD DROP")
	n := idleNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24")))
	n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("front")})
	w := n.Warnings()
	if len(w) != 1 || !strings.Contains(w[0], "iptables-legacy drops what is forwarded") {
		t.Fatalf("got %q", w)
	}
	_, fix, _ := strings.Cut(w[0], "To let them: ")
	run(t, "sh", "-c", fix)
	_, err := n.rules.Check(context.Background())
	must(t, err)
	if w := n.Warnings(); len(w) != 0 {
		t.Errorf("after %q: %q", fix, w)
	}
}
