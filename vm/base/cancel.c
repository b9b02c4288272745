// SPDX-License-Identifier: Apache-2.0
#include "vm/base/cancel.h"

tarn_status tarn_cancel_check(const tarn_cancel *c, tarn_error *e) {
    switch (tarn_cancel_reason(c)) {
    case TARN_STOP_NONE:
        return TARN_OK;
    case TARN_STOP_DEADLINE:
        return tarn_raise_status(e, TARN_CANCELLED, "TimeLimit", "time limit reached");
    case TARN_STOP_TERM:
        return tarn_raise_status(e, TARN_CANCELLED, "Terminated", "terminated");
    case TARN_STOP_HUP:
        return tarn_raise_status(e, TARN_CANCELLED, "HangUp", "hung up");
    case TARN_STOP_INT:
    default:
        return tarn_raise_status(e, TARN_CANCELLED, "Interrupted", "interrupted");
    }
}
