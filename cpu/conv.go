package cpu

func nativeConv(n *node) bool { return false }
