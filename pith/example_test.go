package pith_test

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

func ExampleVerify() {
	result := pith.Verify(seed.Bundle(), pith.PinnedTrust())
	fmt.Println(result.Verdict())
	fmt.Println(result.Title)
	// Output:
	// valid
	// SmoothOut: Smoothing Out Sharp Minima to Improve Generalization in Deep Learning
}

func ExampleAppend() {
	key, err := pith.GenerateKey(rand.Reader, pith.Signer{ID: "ada@example.org", Type: "individual", KeyID: "key-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	draft, err := pith.NewDraft(pith.Correction{Kind: "metadata", Text: "the second author's name is misspelt"}, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	bundle, _, err := pith.Append(seed.Bundle(), key, now, draft)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pith.Verify(bundle, nil).Verdict())

	ours := pith.TrustFor(key.Public(), []string{"correction"}, true)
	trust, err := pith.PinnedTrust().Merge(ours)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pith.Verify(bundle, trust).Verdict())
	// Output:
	// untrusted
	// valid
}

func ExampleMerge() {
	key, err := pith.GenerateKey(rand.Reader, pith.Signer{ID: "ada@example.org", Type: "individual", KeyID: "key-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	draft, err := pith.NewDraft(pith.CitationSignature{Relation: "extends", Citing: pith.Work{Kind: "arxiv", ID: "2601.00001"}}, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	mine, _, err := pith.Append(seed.Bundle(), key, now, draft)
	if err != nil {
		fmt.Println(err)
		return
	}
	one, err := pith.Merge(mine, seed.Bundle())
	if err != nil {
		fmt.Println(err)
		return
	}
	two, err := pith.Merge(seed.Bundle(), mine, mine)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(one) == string(two))
	// Output: true
}
