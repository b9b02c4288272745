// SPDX-License-Identifier: Apache-2.0
// Runs a fuzzer's entry point over the files of the folders named on the command line, in a buffer
// of exactly each file's size. Without the fuzzing engine: this is how a corpus guards the normal
// suite.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) {
        fprintf(stderr, "cannot read %s\n", path);
        return 1;
    }
    size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(size ? size : 1);
    int failed = !data || fread(data, 1, size, f) != size;
    fclose(f);
    if (!failed) {
        LLVMFuzzerTestOneInput(data, size);
    }
    free(data);
    return failed;
}

int main(int argc, char **argv) {
    int files = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
            char path[4096];
            int n = snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            if (e->d_name[0] != '.' && n > 0 && (size_t)n < sizeof path) {
                printf("%s\n", path);
                fflush(stdout);  // names the culprit of a crash
                failed += replay(path);
                files++;
            }
        }
        if (d) {
            closedir(d);
        }
    }
    return files == 0 || failed != 0;
}
