// SPDX-License-Identifier: Apache-2.0
// Explaining why two models do not fit together: in layers and prefixes rather than in hundreds of
// names, with the count never cut and a hint that names the way out. Private to merge/model.
#ifndef TARN_MODEL_DIFFER_H
#define TARN_MODEL_DIFFER_H

#include "merge/model/model.h"

// Both always fail: MissingTensor, ShapeMismatch.
tarn_status tarn_differ_names(const tarn_model *a, const tarn_model *b, tarn_error *err);
tarn_status tarn_differ_shapes(const tarn_model *a, const tarn_model *b, tarn_error *err);

#endif
