// SPDX-License-Identifier: Apache-2.0
// Tables of numbers as CSV (RFC 4180): fields between separators, quotes around fields that hold
// separators, line ends or doubled quotes, lines that end in LF or CRLF. All columns are numbers but
// for one, which may hold labels. Numbers are read the same way under any locale. Every refusal says
// line and column (both from 1; the column counts bytes of the line).
#ifndef TARN_FORMAT_CSV_H
#define TARN_FORMAT_CSV_H

#include "vm/base/arena.h"
#include "vm/base/context.h"

typedef enum { TARN_CSV_GUESS, TARN_CSV_HEADER, TARN_CSV_NO_HEADER } tarn_csv_head;

typedef struct tarn_csv_options {
    char separator;       // 0: a comma
    tarn_csv_head head;   // GUESS: the first line is a header if no field of it is a number
    const char *label;    // the name of the column of labels, which needs a header; NULL: see below
    int64_t label_column; // from 1, or from the end if negative; 0: no labels
} tarn_csv_options;

typedef struct tarn_csv tarn_csv;

// Goes over the text once: the number of records, that all have as many fields, the header. The text
// (NUL-terminated) and the name outlive the table.
tarn_status tarn_csv_open(tarn_context *cx, const char *text, size_t len, const char *name,
                          const tarn_csv_options *o, tarn_csv **out, tarn_error *err);
int64_t tarn_csv_rows(const tarn_csv *t);
int64_t tarn_csv_columns(const tarn_csv *t);  // of numbers
bool tarn_csv_labelled(const tarn_csv *t);
// What the header calls column i (from 0, of the columns of numbers); NULL without a header.
const char *tarn_csv_column(const tarn_csv *t, int64_t i);

// Reads all values: numbers [rows × columns] row-major, and the class of each row into labels, where
// the table has some. Labels that are whole numbers from 0 to 2^31 - 1 are the classes themselves;
// others are texts, whose classes count from 0 in byte order of the distinct ones.
tarn_status tarn_csv_read(tarn_csv *t, double *numbers, int64_t *labels, tarn_error *err);
int64_t tarn_csv_classes(const tarn_csv *t);                // after reading; the largest class + 1
const char *tarn_csv_class(const tarn_csv *t, int64_t i);   // its text; NULL where labels are numbers
void tarn_csv_close(tarn_csv *t);                           // t may be NULL

// A number as a whole text: sign, digits, point, exponent; inf, infinity and nan in any case. One
// rounding. False for anything else.
bool tarn_csv_number(const char *s, size_t len, double *v);

#endif
