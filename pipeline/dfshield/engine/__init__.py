"""How the same mathematics is computed: precision, compiled passes, fused BatchNorm."""
