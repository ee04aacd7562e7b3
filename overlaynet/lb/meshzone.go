package lb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A client may use one port for two connections to two nodes, and both may be
// led to one task. On its node they look the same, since each has the client's
// own address. So what comes over the mesh is tracked in a zone of the node
// that sent it: the second connection is another one, and gets another
// source port towards the task.
//
// The one rule for it is in a table of its own, which is not written anew with
// the other: a packet that passes while it is not there would be of no
// connection.

// zoneTable is the table's name.
func (r *Rules) zoneTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: r.table.Name + "_zones"}
}

// zonesLocked makes the table what the model asks for, if it is not. That of
// an earlier process stays until it is known whether there is a mesh.
func (r *Rules) zonesLocked() error {
	if !r.meshed {
		return nil
	}
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	defer c.CloseLasting()
	t, device := r.zoneTable(), r.model.inbound.Mesh
	have, there := zonesOf(c, t)
	if there == (device != "") && (device == "" || slices.Equal(have, []string{zoneTag(device)})) {
		return nil
	}
	r.writes.Add(1)
	if err := send(zoneMessages(t.Name, device)); err != nil {
		return fmt.Errorf("zones of connections from other nodes: %w", err)
	}
	return nil
}

// zonesOf returns the tags of the table's rules, and whether it is there.
func zonesOf(c *nftables.Conn, t *nftables.Table) (tags []string, there bool) {
	tables, err := c.ListTablesOfFamily(t.Family)
	if err != nil || !slices.ContainsFunc(tables, func(x *nftables.Table) bool { return x.Name == t.Name }) {
		return nil, false
	}
	rules, err := c.GetRules(t, &nftables.Chain{Table: t, Name: zoneChain})
	if err != nil {
		return nil, true
	}
	for _, x := range rules {
		tags = append(tags, tagIn(x.UserData))
	}
	return tags, true
}

const zoneChain = "raw"

func zoneTag(device string) string {
	return tagOf([]any{"zone by the end of the hardware address", device})
}

// zoneMessages is the transaction that replaces the table; with no device it
// removes it. The library does not write the direction that a zone is for.
func zoneMessages(table, device string) ([]netlink.Message, error) {
	name := str(unix.NFTA_TABLE_NAME, table)
	out := []netlink.Message{
		nfMessage(unix.NFNL_MSG_BATCH_BEGIN, 0, nil),
		nfMessage(nfTables|unix.NFT_MSG_NEWTABLE, netlink.Create, attrs(name)),
		nfMessage(nfTables|unix.NFT_MSG_DELTABLE, 0, attrs(name)),
	}
	if device != "" {
		exprs, err := zoneExprs(device)
		if err != nil {
			return nil, err
		}
		const before = -310 // the packet filter's raw chains, and tracking
		priority := int32(before)
		hook := attrs(num(unix.NFTA_HOOK_HOOKNUM, uint32(*nftables.ChainHookPrerouting)), num(unix.NFTA_HOOK_PRIORITY, uint32(priority)))
		tag := userdata.AppendString(nil, userdata.TypeComment, zoneTag(device))
		out = append(out,
			nfMessage(nfTables|unix.NFT_MSG_NEWTABLE, netlink.Create, attrs(name)),
			nfMessage(nfTables|unix.NFT_MSG_NEWCHAIN, netlink.Create, attrs(str(unix.NFTA_CHAIN_TABLE, table), str(unix.NFTA_CHAIN_NAME, zoneChain),
				nest(unix.NFTA_CHAIN_HOOK, hook), str(unix.NFTA_CHAIN_TYPE, "filter"))),
			nfMessage(nfTables|unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, attrs(str(unix.NFTA_RULE_TABLE, table), str(unix.NFTA_RULE_CHAIN, zoneChain),
				nest(unix.NFTA_RULE_EXPRESSIONS, exprs), netlink.Attribute{Type: unix.NFTA_RULE_USERDATA, Data: tag})))
	}
	return append(out, nfMessage(unix.NFNL_MSG_BATCH_END, 0, nil)), nil
}

// zoneExprs: from the mesh, the zone of the connection's first direction is
// the last two bytes of the sender's hardware address, which are those of its
// address on the mesh, and no other node's.
func zoneExprs(device string) ([]byte, error) {
	match := append(onLinkOf(iifname, device), &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseLLHeader, Offset: 10, Len: 2})
	var out []netlink.Attribute
	for _, e := range match {
		b, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
		if err != nil {
			return nil, err
		}
		out = append(out, nest(unix.NFTA_LIST_ELEM, b))
	}
	zone := attrs(num(unix.NFTA_CT_KEY, unix.NFT_CT_ZONE), num(unix.NFTA_CT_SREG, reg1), netlink.Attribute{Type: unix.NFTA_CT_DIRECTION, Data: []byte{original}})
	return attrs(append(out, nest(unix.NFTA_LIST_ELEM, attrs(str(unix.NFTA_EXPR_NAME, "ct"), nest(unix.NFTA_EXPR_DATA, zone))))...), nil
}

const nfTables = unix.NFNL_SUBSYS_NFTABLES << 8

// nfMessage is one message of a transaction, with its struct nfgenmsg.
func nfMessage(kind int, flags netlink.HeaderFlags, data []byte) netlink.Message {
	head := []byte{byte(nftables.TableFamilyINet), 0, 0, 0}
	if data == nil { // begins or ends it
		head = binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, unix.NFNL_SUBSYS_NFTABLES)
	} else {
		flags |= netlink.Acknowledge
	}
	return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags}, Data: append(head, data...)}
}

func str(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

func num(kind uint16, v uint32) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: binary.BigEndian.AppendUint32(nil, v)}
}

func nest(kind uint16, data []byte) netlink.Attribute {
	return netlink.Attribute{Type: kind | unix.NLA_F_NESTED, Data: data}
}

func attrs(list ...netlink.Attribute) []byte {
	b, err := netlink.MarshalAttributes(list)
	if err != nil {
		panic(err) // an attribute of more than 64 KiB: none of ours is
	}
	return b
}

// send sends a transaction and returns the first error of its messages.
func send(messages []netlink.Message, err error) error {
	if err != nil {
		return err
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	sent, err := c.SendMessages(messages)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range sent {
		if m.Header.Flags&netlink.Acknowledge == 0 {
			continue
		}
		if _, err := c.Receive(); err != nil {
			errs = append(errs, err)
			break // those after it are not answered
		}
	}
	return errors.Join(errs...)
}
