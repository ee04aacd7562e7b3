package consensus

import (
	"context"
	"testing"
)

func BenchmarkApplyThree(b *testing.B) {
	v := mustVoters(b, 3, nil)
	lead := v.leader()
	b.ResetTimer()
	for i := range b.N {
		if _, err := lead.Apply(context.Background(), command(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyThreeParallel(b *testing.B) {
	v := mustVoters(b, 3, nil)
	lead := v.leader()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := lead.Apply(context.Background(), put("k", "v")); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkVerifyThree(b *testing.B) {
	v := mustVoters(b, 3, nil)
	lead := v.leader()
	b.ResetTimer()
	for range b.N {
		if err := lead.Verify(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
