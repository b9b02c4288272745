// SPDX-License-Identifier: Apache-2.0
// What a plain scalar of YAML means. Private to vm/format.
#ifndef TARN_FORMAT_YAML_SCALAR_H
#define TARN_FORMAT_YAML_SCALAR_H

#include "vm/format/yaml.h"

// Sets kind and value from text and len.
void tarn_yaml_scalar(tarn_yaml *y);

#endif
