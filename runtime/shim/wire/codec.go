package wire

// Encoder builds a payload.
type Encoder []byte

// String appends s.
func (e Encoder) String(s string) Encoder {
	return append(appendUint32(e, uint32(len(s))), s...)
}

// Uint appends v.
func (e Encoder) Uint(v uint64) Encoder { return appendUint64(e, v) }

// Bool appends v.
func (e Encoder) Bool(v bool) Encoder {
	if v {
		return append(e, 1)
	}
	return append(e, 0)
}

// Decoder takes a payload apart. After the first value that is not there, Err
// is set and all further values are zero.
type Decoder struct {
	b   []byte
	err error
}

// Decode begins to decode b.
func Decode(b []byte) *Decoder { return &Decoder{b: b} }

func (d *Decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = ErrMalformed
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// String takes a string.
func (d *Decoder) String() string {
	n := d.take(4)
	if n == nil {
		return ""
	}
	length := getUint32(n)
	if length > MaxPayload {
		d.err = ErrMalformed
		return ""
	}
	return string(d.take(int(length)))
}

// Uint takes an integer.
func (d *Decoder) Uint() uint64 {
	if b := d.take(8); b != nil {
		return getUint64(b)
	}
	return 0
}

// Bool takes a truth value; anything but 0 and 1 is malformed.
func (d *Decoder) Bool() bool {
	b := d.take(1)
	if b == nil || b[0] > 1 {
		d.err = ErrMalformed
		return false
	}
	return b[0] == 1
}

// Err is nil when everything asked for was there and nothing is left.
func (d *Decoder) Err() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = ErrMalformed
	}
	return d.err
}
