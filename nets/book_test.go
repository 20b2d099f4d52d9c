package nets

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/internal/seed"
)

// A book computes networks of the reference in plain loops, for one image, in
// evaluation, from the weights of a store: the judge of the graphs.
type book struct {
	at      func(path string) []float64
	h, w, c int
	v       []float64 // [h, w, c]
}

// conv is nn.Conv2d(c, out, k, stride, pad, bias=False).
func (b *book) conv(path string, out, k, stride, pad int) {
	w := b.at(path + "/conv/weights") // [k, k, c, out]
	h2, w2 := (b.h+2*pad-k)/stride+1, (b.w+2*pad-k)/stride+1
	v := make([]float64, h2*w2*out)
	for y := range h2 {
		for x := range w2 {
			for i := range k {
				for j := range k {
					sy, sx := y*stride+i-pad, x*stride+j-pad
					if sy < 0 || sy >= b.h || sx < 0 || sx >= b.w {
						continue
					}
					for c := range b.c {
						for o := range out {
							v[(y*w2+x)*out+o] += b.v[(sy*b.w+sx)*b.c+c] * w[((i*k+j)*b.c+c)*out+o]
						}
					}
				}
			}
		}
	}
	b.h, b.w, b.c, b.v = h2, w2, out, v
}

// pool is nn.MaxPool2d(3, 2, pad).
func (b *book) pool(pad int) {
	h2, w2 := (b.h+2*pad-3)/2+1, (b.w+2*pad-3)/2+1
	v := make([]float64, h2*w2*b.c)
	for y := range h2 {
		for x := range w2 {
			for c := range b.c {
				largest := math.Inf(-1)
				for i := range 3 {
					for j := range 3 {
						if sy, sx := 2*y+i-pad, 2*x+j-pad; sy >= 0 && sy < b.h && sx >= 0 && sx < b.w {
							largest = max(largest, b.v[(sy*b.w+sx)*b.c+c])
						}
					}
				}
				v[(y*w2+x)*b.c+c] = largest
			}
		}
	}
	b.h, b.w, b.v = h2, w2, v
}

func (b *book) bn(path string) {
	p := path + "/batch_normalization/"
	scale, offset, mean, variance := b.at(p+"scale"), b.at(p+"offset"), b.at(p+"mean"), b.at(p+"variance")
	for i := range b.v {
		c := i % b.c
		b.v[i] = scale[c]*(b.v[i]-mean[c])/math.Sqrt(variance[c]+1e-5) + offset[c]
	}
}

func (b *book) relu() {
	for i := range b.v {
		b.v[i] = max(b.v[i], 0)
	}
}

// linear is nn.Linear on all values.
func (b *book) linear(path string, out int, bias bool) {
	w := b.at(path + "/dense/weights")
	v := make([]float64, out)
	for o := range out {
		if bias {
			v[o] = b.at(path + "/dense/biases")[o]
		}
		for i, x := range b.v {
			v[o] += x * w[i*out+o]
		}
	}
	b.h, b.w, b.c, b.v = 1, 1, out, v
}

// mean is nn.AvgPool2d over the whole image.
func (b *book) mean() {
	v := make([]float64, b.c)
	for i, x := range b.v {
		v[i%b.c] += x / float64(b.h*b.w)
	}
	b.h, b.w, b.v = 1, 1, v
}

// basic is the reference's BasicBlock.
func (b *book) basic(path string, width, stride int) {
	short := *b
	if stride != 1 || b.c != width {
		short.conv(path+"/shortcut", width, 1, stride, 0)
		short.bn(path + "/shortcut")
	}
	b.conv(path+"/a", width, 3, stride, 1)
	b.bn(path + "/a")
	b.relu()
	b.conv(path+"/b", width, 3, 1, 1)
	b.bn(path + "/b")
	for i := range b.v {
		b.v[i] += short.v[i]
	}
	b.relu()
}

func (b *book) layers(blocks int, widths ...int) {
	for s, width := range widths {
		for k := range blocks {
			stride := 1
			if s > 0 && k == 0 {
				stride = 2
			}
			b.basic(fmt.Sprintf("/stage_%d/block_%d", s, k), width, stride)
		}
	}
}

// Every network against the book, with weights and statistics that are far from
// their initial values.
func TestForwardByTheBook(t *testing.T) {
	for _, c := range []struct {
		name  string
		fn    train.ModelFn
		input []int
		book  func(b *book)
	}{
		{"f1", F1(6, 3), []int{3, 3, 2}, func(b *book) {
			for i := range 5 {
				l := fmt.Sprintf("/layer_%d", i)
				b.linear(l, 6, true)
				b.bn(l)
				b.relu()
			}
		}},
		{"c1", C1(2, 3, 0.5), []int{10, 9, 2}, func(b *book) {
			for _, l := range []string{"/conv_0", "/conv_1"} {
				b.conv(l, 2, 5, 1, 2)
				b.pool(0)
				b.bn(l)
				b.relu()
			}
			b.linear("/hidden_0", 12, false)
			b.bn("/hidden_0")
			b.relu()
			b.linear("/hidden_1", 6, false)
			b.bn("/hidden_1")
			b.relu()
		}},
		{"resnet14", ResNet(14, 2, 3), []int{8, 8, 2}, func(b *book) {
			b.conv("/stem", 2, 3, 1, 1)
			b.bn("/stem")
			b.relu()
			b.layers(2, 2, 4, 8)
			b.mean()
		}},
		{"resnet18", ResNet18(2, 3), []int{34, 33, 2}, func(b *book) {
			b.conv("/stem", 2, 7, 2, 3)
			b.bn("/stem")
			b.relu()
			b.pool(1)
			b.layers(2, 2, 4, 8, 16)
			b.mean()
		}},
		{"alexnet", AlexNet(2, 3, 0.5), []int{64, 64, 2}, func(b *book) {
			b.conv("/conv_0", 2, 11, 4, 2)
			b.pool(0)
			b.bn("/conv_0")
			b.relu()
			b.conv("/conv_1", 6, 5, 1, 2)
			b.pool(0)
			b.relu()
			b.bn("/conv_1")
			b.conv("/conv_2", 12, 3, 1, 1)
			b.relu()
			b.bn("/conv_2")
			b.conv("/conv_3", 8, 3, 1, 1)
			b.relu()
			b.bn("/conv_3")
			b.conv("/conv_4", 8, 3, 1, 1)
			b.pool(0)
			b.relu()
			b.bn("/conv_4")
			for _, l := range []string{"/hidden_0", "/hidden_1"} {
				b.linear(l, 128, false)
				b.bn(l)
				b.relu()
			}
		}},
	} {
		p := newProbe(backend, c.fn, c.input, dtypes.Float64, false)
		logits := must(model.NewExec(backend, p.store, func(scope *model.Scope, x *Node) *Node {
			scope.Store().SetTraining(x.Graph(), false)
			return c.fn(scope, nil, []*Node{x})[0]
		}))
		must(p.loss.Exec(p.x)) // makes the variables
		weights := map[string][]float64{}
		for v := range p.store.IterVariables() {
			if v.DType() != dtypes.Float64 {
				continue
			}
			draw := make([]float32, v.Shape().Size())
			lo, hi := float32(-0.6), float32(0.7)
			if v.Name() == "variance" || v.Name() == "scale" {
				lo, hi = 0.3, 1.2
			}
			seed.Uniform32(seed.Stream(11, v.Path()), lo, hi, draw)
			values := make([]float64, len(draw))
			for i, x := range draw {
				values[i] = float64(x)
			}
			must(0, v.SetValue(tensors.FromFlatDataAndDimensions(values, v.Shape().Dimensions...)))
			weights[v.Path()] = values
		}
		got := must(tensors.CopyFlatData[float64](must(logits.Call1(p.x))))
		x := must(tensors.CopyFlatData[float64](p.x))
		n := c.input[0] * c.input[1] * c.input[2]
		if math.Abs(got[0]-got[3]) < 1e-3 {
			t.Errorf("%s: two images have the same logits %v: nothing reaches them", c.name, got[:6])
		}
		for i := range 2 {
			b := &book{h: c.input[0], w: c.input[1], c: c.input[2], v: append([]float64(nil), x[i*n:(i+1)*n]...)}
			b.at = func(path string) []float64 {
				w, ok := weights[path]
				if !ok {
					t.Fatalf("%s has no variable %s", c.name, path)
				}
				return w
			}
			c.book(b)
			b.linear("/output", 3, true)
			for k, want := range b.v {
				if !(math.Abs(got[3*i+k]-want) <= 1e-9*(1+math.Abs(want))) {
					t.Errorf("%s, image %d: logit %d is %v, want %v", c.name, i, k, got[3*i+k], want)
				}
			}
		}
	}
}
