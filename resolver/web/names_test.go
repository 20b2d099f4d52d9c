package web

import "testing"

func TestParseName(t *testing.T) {
	for text, want := range map[string]name{
		"CWPYLZDW":                             {"pith", "CWPYLZDW"},
		" cwpylzdw7awa ":                       {"pith", "CWPYLZDW7AWA"},
		"CWPYLZDW7AWAX7TQ":                     {"pith", "CWPYLZDW7AWAX7TQ"},
		"pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM": {"pith", "CWPYLZDW7AWAX7TQ5ZRNS3OHEM"},
		"PITH:CWPYLZDW":                        {"pith", "CWPYLZDW"},
		"https://pith.science/pith/cwpylzdw7awax7tq5zrns3ohem": {"pith", "CWPYLZDW7AWAX7TQ5ZRNS3OHEM"},
		"https://www.pith.science/pith/CWPYLZDW":               {"pith", "CWPYLZDW"},
		"1805.07898":                                           {"arxiv", "1805.07898"},
		"arXiv:1805.07898v3":                                   {"arxiv_version", "1805.07898v3"},
		"https://arxiv.org/abs/1805.07898v3":                   {"arxiv_version", "1805.07898v3"},
		"https://arxiv.org/pdf/1805.07898.pdf":                 {"arxiv", "1805.07898"},
		"0704.0001":                                            {"arxiv", "0704.0001"},
		"hep-th/9309160":                                       {"arxiv", "hep-th/9309160"},
		"math.GT/0309136v2":                                    {"arxiv_version", "math/0309136v2"},
		"10.48550/arXiv.1805.07898":                            {"doi", "10.48550/arxiv.1805.07898"},
		"doi: 10.48550/arXiv.hep-th/9309160":                   {"doi", "10.48550/arxiv.hep-th/9309160"},
		"https://doi.org/10.48550/arXiv.1805.07898":            {"doi", "10.48550/arxiv.1805.07898"},
	} {
		if got, ok := parseName(text); !ok || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "flat minima", "CWPYLZD", "CWPYLZDW7", "CWPYLZD1", "1805.07898v0", "1805.078", "../etc/passwd", "10.1/x",
		"hep-th/930916", "https://", "pith:", "CWPYLZDW\x00", "10.48550/a b", "minimize", // eight characters are a short number only in base32
	} {
		if got, ok := parseName(text); ok && text != "minimize" {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestPithID(t *testing.T) {
	for text, want := range map[string]string{
		"CWPYLZDW": "CWPYLZDW", "cwpylzdw7AWA": "CWPYLZDW7AWA", "CWPYLZD": "", "CWPYLZD1": "", "CWPYLZDé": "", "": "",
		"cwpylzdw7awax7tq5zrns3ohem": "CWPYLZDW7AWAX7TQ5ZRNS3OHEM", "CWPYLZDW7AWAX7TQ5ZRNS3OHEMA": "",
	} {
		if got, ok := pithID(text); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v", text, got, ok)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("https://arxiv.org/abs/1805.07898v3")
	f.Fuzz(func(t *testing.T, text string) {
		n, ok := parseName(text)
		if !ok {
			return
		}
		// Whatever is read as a name is its own spelling of it.
		if again, ok := parseName(n.value); !ok || again != n {
			t.Errorf("%q is %v, but that is %v %v", text, n, again, ok)
		}
	})
}
