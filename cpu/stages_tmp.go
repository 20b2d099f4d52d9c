package cpu

func (g *graph) splitBatchNorm() {}
func (g *graph) foldLayouts()    {}
func (g *graph) fuse()           {}
