package cpu

import "github.com/gomlx/compute"

// The operations that differ in nothing but their name, see compute.StandardOps
// for what each does.

// Abs records the operation of that name.
func (f *Function) Abs(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeAbs, compute.Function.Abs, x)
}

// BitCount records the operation of that name.
func (f *Function) BitCount(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeBitCount, compute.Function.BitCount, x)
}

// BitwiseNot records the operation of that name.
func (f *Function) BitwiseNot(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeBitwiseNot, compute.Function.BitwiseNot, x)
}

// Ceil records the operation of that name.
func (f *Function) Ceil(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeCeil, compute.Function.Ceil, x)
}

// Clz records the operation of that name.
func (f *Function) Clz(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeClz, compute.Function.Clz, x)
}

// Conj records the operation of that name.
func (f *Function) Conj(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeConj, compute.Function.Conj, x)
}

// Cos records the operation of that name.
func (f *Function) Cos(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeCos, compute.Function.Cos, x)
}

// Erf records the operation of that name.
func (f *Function) Erf(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeErf, compute.Function.Erf, x)
}

// Exp records the operation of that name.
func (f *Function) Exp(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeExp, compute.Function.Exp, x)
}

// Expm1 records the operation of that name.
func (f *Function) Expm1(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeExpm1, compute.Function.Expm1, x)
}

// Floor records the operation of that name.
func (f *Function) Floor(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeFloor, compute.Function.Floor, x)
}

// Identity records the operation of that name.
func (f *Function) Identity(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeIdentity, compute.Function.Identity, x)
}

// Imag records the operation of that name.
func (f *Function) Imag(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeImag, compute.Function.Imag, x)
}

// IsFinite records the operation of that name.
func (f *Function) IsFinite(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeIsFinite, compute.Function.IsFinite, x)
}

// IsNaN records the operation of that name.
func (f *Function) IsNaN(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeIsNaN, compute.Function.IsNaN, x)
}

// Log records the operation of that name.
func (f *Function) Log(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeLog, compute.Function.Log, x)
}

// Log1p records the operation of that name.
func (f *Function) Log1p(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeLog1p, compute.Function.Log1p, x)
}

// LogicalNot records the operation of that name.
func (f *Function) LogicalNot(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeLogicalNot, compute.Function.LogicalNot, x)
}

// Logistic records the operation of that name.
func (f *Function) Logistic(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeLogistic, compute.Function.Logistic, x)
}

// Neg records the operation of that name.
func (f *Function) Neg(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeNeg, compute.Function.Neg, x)
}

// Real records the operation of that name.
func (f *Function) Real(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeReal, compute.Function.Real, x)
}

// Round records the operation of that name.
func (f *Function) Round(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeRound, compute.Function.Round, x)
}

// Rsqrt records the operation of that name.
func (f *Function) Rsqrt(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeRsqrt, compute.Function.Rsqrt, x)
}

// Sign records the operation of that name.
func (f *Function) Sign(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeSign, compute.Function.Sign, x)
}

// Sin records the operation of that name.
func (f *Function) Sin(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeSin, compute.Function.Sin, x)
}

// Sqrt records the operation of that name.
func (f *Function) Sqrt(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeSqrt, compute.Function.Sqrt, x)
}

// Tanh records the operation of that name.
func (f *Function) Tanh(x compute.Value) (compute.Value, error) {
	return f.unary(compute.OpTypeTanh, compute.Function.Tanh, x)
}

// Add records the operation of that name.
func (f *Function) Add(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeAdd, compute.Function.Add, lhs, rhs)
}

// Atan2 records the operation of that name.
func (f *Function) Atan2(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeAtan2, compute.Function.Atan2, lhs, rhs)
}

// BitwiseAnd records the operation of that name.
func (f *Function) BitwiseAnd(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeBitwiseAnd, compute.Function.BitwiseAnd, lhs, rhs)
}

// BitwiseOr records the operation of that name.
func (f *Function) BitwiseOr(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeBitwiseOr, compute.Function.BitwiseOr, lhs, rhs)
}

// BitwiseXor records the operation of that name.
func (f *Function) BitwiseXor(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeBitwiseXor, compute.Function.BitwiseXor, lhs, rhs)
}

// Complex records the operation of that name.
func (f *Function) Complex(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeComplex, compute.Function.Complex, lhs, rhs)
}

// Div records the operation of that name.
func (f *Function) Div(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeDiv, compute.Function.Div, lhs, rhs)
}

// Equal records the operation of that name.
func (f *Function) Equal(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeEqual, compute.Function.Equal, lhs, rhs)
}

// EqualTotalOrder records the operation of that name.
func (f *Function) EqualTotalOrder(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeEqualTotalOrder, compute.Function.EqualTotalOrder, lhs, rhs)
}

// GreaterOrEqual records the operation of that name.
func (f *Function) GreaterOrEqual(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeGreaterOrEqual, compute.Function.GreaterOrEqual, lhs, rhs)
}

// GreaterOrEqualTotalOrder records the operation of that name.
func (f *Function) GreaterOrEqualTotalOrder(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeGreaterOrEqualTotalOrder, compute.Function.GreaterOrEqualTotalOrder, lhs, rhs)
}

// GreaterThan records the operation of that name.
func (f *Function) GreaterThan(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeGreaterThan, compute.Function.GreaterThan, lhs, rhs)
}

// GreaterThanTotalOrder records the operation of that name.
func (f *Function) GreaterThanTotalOrder(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeGreaterThanTotalOrder, compute.Function.GreaterThanTotalOrder, lhs, rhs)
}

// LessOrEqual records the operation of that name.
func (f *Function) LessOrEqual(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeLessOrEqual, compute.Function.LessOrEqual, lhs, rhs)
}

// LessOrEqualTotalOrder records the operation of that name.
func (f *Function) LessOrEqualTotalOrder(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeLessOrEqualTotalOrder, compute.Function.LessOrEqualTotalOrder, lhs, rhs)
}

// LessThan records the operation of that name.
func (f *Function) LessThan(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeLessThan, compute.Function.LessThan, lhs, rhs)
}

// LessThanTotalOrder records the operation of that name.
func (f *Function) LessThanTotalOrder(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeLessThanTotalOrder, compute.Function.LessThanTotalOrder, lhs, rhs)
}

// LogicalAnd records the operation of that name.
func (f *Function) LogicalAnd(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeLogicalAnd, compute.Function.LogicalAnd, lhs, rhs)
}

// LogicalOr records the operation of that name.
func (f *Function) LogicalOr(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeLogicalOr, compute.Function.LogicalOr, lhs, rhs)
}

// LogicalXor records the operation of that name.
func (f *Function) LogicalXor(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeLogicalXor, compute.Function.LogicalXor, lhs, rhs)
}

// Max records the operation of that name.
func (f *Function) Max(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeMax, compute.Function.Max, lhs, rhs)
}

// Min records the operation of that name.
func (f *Function) Min(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeMin, compute.Function.Min, lhs, rhs)
}

// Mul records the operation of that name.
func (f *Function) Mul(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeMul, compute.Function.Mul, lhs, rhs)
}

// NotEqual records the operation of that name.
func (f *Function) NotEqual(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeNotEqual, compute.Function.NotEqual, lhs, rhs)
}

// NotEqualTotalOrder records the operation of that name.
func (f *Function) NotEqualTotalOrder(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeNotEqualTotalOrder, compute.Function.NotEqualTotalOrder, lhs, rhs)
}

// Pow records the operation of that name.
func (f *Function) Pow(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypePow, compute.Function.Pow, lhs, rhs)
}

// Rem records the operation of that name.
func (f *Function) Rem(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeRem, compute.Function.Rem, lhs, rhs)
}

// ShiftLeft records the operation of that name.
func (f *Function) ShiftLeft(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeShiftLeft, compute.Function.ShiftLeft, lhs, rhs)
}

// ShiftRightArithmetic records the operation of that name.
func (f *Function) ShiftRightArithmetic(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeShiftRightArithmetic, compute.Function.ShiftRightArithmetic, lhs, rhs)
}

// ShiftRightLogical records the operation of that name.
func (f *Function) ShiftRightLogical(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeShiftRightLogical, compute.Function.ShiftRightLogical, lhs, rhs)
}

// Sub records the operation of that name.
func (f *Function) Sub(lhs, rhs compute.Value) (compute.Value, error) {
	return f.binary(compute.OpTypeSub, compute.Function.Sub, lhs, rhs)
}

// ReduceBitwiseAnd records the operation of that name.
func (f *Function) ReduceBitwiseAnd(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceBitwiseAnd, compute.Function.ReduceBitwiseAnd, x, axes)
}

// ReduceBitwiseOr records the operation of that name.
func (f *Function) ReduceBitwiseOr(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceBitwiseOr, compute.Function.ReduceBitwiseOr, x, axes)
}

// ReduceBitwiseXor records the operation of that name.
func (f *Function) ReduceBitwiseXor(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceBitwiseXor, compute.Function.ReduceBitwiseXor, x, axes)
}

// ReduceLogicalAnd records the operation of that name.
func (f *Function) ReduceLogicalAnd(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceLogicalAnd, compute.Function.ReduceLogicalAnd, x, axes)
}

// ReduceLogicalOr records the operation of that name.
func (f *Function) ReduceLogicalOr(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceLogicalOr, compute.Function.ReduceLogicalOr, x, axes)
}

// ReduceLogicalXor records the operation of that name.
func (f *Function) ReduceLogicalXor(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceLogicalXor, compute.Function.ReduceLogicalXor, x, axes)
}

// ReduceMax records the operation of that name.
func (f *Function) ReduceMax(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceMax, compute.Function.ReduceMax, x, axes)
}

// ReduceMin records the operation of that name.
func (f *Function) ReduceMin(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceMin, compute.Function.ReduceMin, x, axes)
}

// ReduceProduct records the operation of that name.
func (f *Function) ReduceProduct(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceProduct, compute.Function.ReduceProduct, x, axes)
}

// ReduceSum records the operation of that name.
func (f *Function) ReduceSum(x compute.Value, axes ...int) (compute.Value, error) {
	return f.reduction(compute.OpTypeReduceSum, compute.Function.ReduceSum, x, axes)
}
