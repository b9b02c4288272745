-- SPDX-License-Identifier: Apache-2.0
-- The dtypes whose numbers are coordinates: weights that can be trained, moved and measured.
return { f64 = true, f32 = true, f16 = true, bf16 = true }
