// SPDX-License-Identifier: Apache-2.0
// The prompt's line editor on libedit. libedit knows no bracketed paste, so its read hook is ours:
// it decodes UTF-8, watches for a stop and for what happens to the terminal, and inserts a paste as
// one piece of text, newlines and all, instead of running its lines one by one.
#include "vm/repl/line_edit.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "vm/repl/repl.h"

enum { HISTORY = 2000, PENDING = 8, ESC = 0x1B, ESC_WAIT_MS = 40, PROMPT = 128 };

// Typed never (it is the terminal's quit character); returned by the read hook after a paste.
#define REDRAW_KEY L'\x1C'
#define REDRAW_NAME "\x1C"

struct tarn_editor {
    tarn_line_options o;
    EditLine *el;
    History *history;
    char prompt[PROMPT];
    unsigned char pending[PENDING];  // bytes read ahead while looking for the mark of a paste
    int pending_at, pending_end;
    bool stopped;
    unsigned short rows, columns;
};

static tarn_editor *editor_of(EditLine *el) {
    void *e = NULL;
    el_get(el, EL_CLIENTDATA, &e);
    return e;
}

// ---- reading ----

static void bracketed_paste(bool on) {
    fputs(on ? "\033[?2004h" : "\033[?2004l", stdout);
    fflush(stdout);
}

// libedit would follow the window and come back from Ctrl-Z only by taking over every signal. An
// empty handler is enough for the read to wake; what has happened is seen by looking.
static void woken(int sig) { (void)sig; }

static void follow_terminal(tarn_editor *e) {
    struct winsize w;
    struct termios mode;
    if (tcgetattr(STDIN_FILENO, &mode) == 0 && (mode.c_lflag & ICANON)) {
        el_set(e->el, EL_PREP_TERM, 0);  // the shell left its own mode behind, unknown to libedit
        el_set(e->el, EL_PREP_TERM, 1);
        bracketed_paste(true);
        el_set(e->el, EL_REFRESH);
    }
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0 &&
        (w.ws_row != e->rows || w.ws_col != e->columns)) {
        if (e->columns) {
            el_resize(e->el);
        }
        e->rows = w.ws_row;
        e->columns = w.ws_col;
    }
}

// The next byte, -1 at the end of input or after a stop (e->stopped).
static int next_byte(tarn_editor *e) {
    unsigned char c;
    if (e->pending_at < e->pending_end) {
        return e->pending[e->pending_at++];
    }
    for (;;) {
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (tarn_cancel_reason(e->o.cancel) != TARN_STOP_NONE) {
            e->stopped = true;
            return -1;
        }
        if (n == 1) {
            return c;
        }
        if (n == 0 || errno != EINTR) {
            return -1;
        }
        follow_terminal(e);
    }
}

// True if the bytes after ESC are those of `mark`; else they wait in e->pending.
static bool follows(tarn_editor *e, const char *mark) {
    int n = 0;
    while (mark[n]) {
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        if (e->pending_at == e->pending_end && poll(&p, 1, ESC_WAIT_MS) != 1) {
            break;
        }
        int c = next_byte(e);
        if (c < 0) {
            return false;
        }
        e->pending[n++] = (unsigned char)c;
        if (c != mark[n - 1]) {
            break;
        }
        if (!mark[n]) {
            e->pending_at = e->pending_end = 0;
            return true;
        }
    }
    e->pending_at = 0;
    e->pending_end = n;
    return false;
}

// Everything up to the closing mark goes in at the cursor; other control bytes are dropped, the
// last newline too, so that the paste waits for Enter.
static bool insert_paste(tarn_editor *e) {
    tarn_text t;
    tarn_text_init(&t, e->o.budget);
    bool cr = false;
    for (int c; (c = next_byte(e)) >= 0;) {
        if (c == ESC && follows(e, "[201~")) {
            break;
        }
        char ch = c == '\r' ? '\n' : (char)c;
        if ((c >= 0x20 && c != 0x7F) || c == '\t' || (ch == '\n' && !(c == '\n' && cr))) {
            tarn_text_add(&t, &ch, 1);
        }
        cr = c == '\r';
    }
    while (t.len > 0 && t.data[t.len - 1] == '\n') {
        t.data[--t.len] = '\0';
    }
    bool ok = t.len == 0 || (!t.failed && el_insertstr(e->el, t.data) == 0);
    tarn_text_free(&t);
    return ok && !e->stopped;
}

static wchar_t decode(tarn_editor *e, int first) {
    int more = first >= 0xF0 && first < 0xF5 ? 3 : first >= 0xE0 ? 2 : first >= 0xC2 ? 1 : -1;
    if (first < 0x80) {
        return (wchar_t)first;
    }
    if (more < 0 || first >= 0xF5) {
        return 0xFFFD;
    }
    unsigned v = (unsigned)first & (0x3FU >> more);
    for (int i = 0; i < more; i++) {
        int c = next_byte(e);
        if ((c & 0xC0) != 0x80 || c < 0) {
            return 0xFFFD;
        }
        v = v << 6 | ((unsigned)c & 0x3F);
    }
    return (wchar_t)v;
}

static int read_key(EditLine *el, wchar_t *out) {
    tarn_editor *e = editor_of(el);
    int c = next_byte(e);
    if (c == ESC && e->pending_at == e->pending_end && follows(e, "[200~")) {
        *out = REDRAW_KEY;
        return insert_paste(e) ? 1 : -1;
    }
    if (c < 0 || e->stopped) {
        return e->stopped ? -1 : 0;
    }
    *out = decode(e, c);
    return e->stopped ? -1 : 1;
}

static unsigned char redraw(EditLine *el, int key) {
    (void)el;
    (void)key;
    return CC_REFRESH;
}

// ---- completion ----

static int by_word(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// The words in byte order, each once; the caller frees. NULL: none, or no memory.
static const char **sorted(const tarn_words *w, int *count) {
    const char **list = w->count > 0 && !w->text.failed ? calloc((size_t)w->count, sizeof *list)
                                                        : NULL;
    const char *s = w->text.data;
    int n = 0;
    for (int i = 0; list && i < w->count; i++) {
        list[i] = s;
        s += strlen(s) + 1;
        s += strlen(s) + 1;
    }
    if (list) {
        qsort(list, (size_t)w->count, sizeof *list, by_word);
        for (int i = 0; i < w->count; i++) {
            if (i == 0 || strcmp(list[i], list[n - 1]) != 0) {
                list[n++] = list[i];
            }
        }
    }
    *count = n;
    return list;
}

// Bytes that the first and the last of sorted words share, so all of them; whole characters.
static size_t common(const char *a, const char *b) {
    size_t n = 0;
    while (a[n] && a[n] == b[n]) {
        n++;
    }
    while (n > 0 && ((unsigned char)a[n] & 0xC0) == 0x80) {
        n--;
    }
    return n;
}

// Columns that the text takes; *fits: the bytes of it that take at most `room`.
static int columns_of(const char *s, int room, size_t *fits) {
    mbstate_t state = {0};
    int columns = 0;
    size_t i = 0, n = strlen(s), most = 0;
    while (i < n) {
        wchar_t c = 0;
        size_t used = mbrtowc(&c, s + i, n - i, &state);
        if (used == 0 || used > n - i) {
            break;  // the names of files may be anything
        }
        int w = wcwidth(c);
        columns += w > 0 ? w : 0;
        i += used;
        most = columns <= room ? i : most;
    }
    *fits = most;
    return columns;
}

static void list_words(const char *const *list, int n) {
    enum { SHOWN = 100, NOTED = 40 };
    int shown = n < SHOWN ? n : SHOWN, widest = 0, notes = 0;
    size_t fits;
    for (int i = 0; i < shown; i++) {
        int wide = columns_of(list[i], 0, &fits);
        widest = wide > widest ? wide : widest;
        notes += list[i][strlen(list[i]) + 1] != '\0';
    }
    int screen = tarn_repl_columns();
    int fit = screen / (widest + 2) > 0 ? screen / (widest + 2) : 1;
    int columns = notes > 0 && n <= NOTED ? 1 : fit;
    int lines = (shown + columns - 1) / columns;
    fputs("\n", stdout);
    for (int row = 0; row < lines; row++) {
        for (int i = row; i < shown; i += lines) {
            const char *note = list[i] + strlen(list[i]) + 1;
            int pad = widest + 2 - columns_of(list[i], 0, &fits);
            printf("%s%*s", list[i], pad, "");
            if (columns == 1 && *note) {
                int room = screen - widest - 3;
                int wide = columns_of(note, room - 1, &fits);
                printf("%.*s%s", wide <= room ? (int)strlen(note) : (int)fits, note,
                       wide <= room ? "" : "…");
            }
        }
        fputs("\n", stdout);
    }
    if (n > shown) {
        printf("… and %d more\n", n - shown);
    }
    fflush(stdout);
}

static unsigned char complete(EditLine *el, int key) {
    (void)key;
    tarn_editor *e = editor_of(el);
    const LineInfo *line = el_line(el);
    size_t cursor = (size_t)(line->cursor - line->buffer);
    tarn_words w = {.start = cursor};
    tarn_text_init(&w.text, e->o.budget);
    e->o.complete(e->o.arg, line->buffer, cursor, &w);
    int n;
    const char **list = sorted(&w, &n);
    unsigned char answer = CC_REFRESH_BEEP;
    if (list) {
        size_t typed = cursor - w.start, len = common(list[0], list[n - 1]);
        char *rest = strndup(list[0], len);
        if (rest && len > typed) {
            el_insertstr(el, rest + typed);
            answer = CC_REFRESH;
        } else if (n > 1) {
            list_words(list, n);
            answer = CC_REDISPLAY;
        }
        if (n == 1 && w.closing && *w.closing) {
            el_insertstr(el, w.closing);
            answer = CC_REFRESH;
        }
        free(rest);
    }
    free(list);
    tarn_text_free(&w.text);
    return answer;
}

// ---- the editor ----

static char *show_prompt(EditLine *el) { return editor_of(el)->prompt; }

static void bind_keys(EditLine *el) {
    static const char *const keys[][2] = {
        {"\t", "tarn-complete"},          {REDRAW_NAME, "tarn-redraw"},
        {"^R", "em-inc-search-prev"},     {"\033[A", "ed-search-prev-history"},
        {"\033OA", "ed-search-prev-history"}, {"\033[B", "ed-search-next-history"},
        {"\033OB", "ed-search-next-history"}, {"\033[H", "ed-move-to-beg"},
        {"\033[F", "ed-move-to-end"},     {"\033OH", "ed-move-to-beg"},
        {"\033OF", "ed-move-to-end"},     {"\033[3~", "ed-delete-next-char"},
        {"\033[1~", "ed-move-to-beg"},    {"\033[4~", "ed-move-to-end"},  // as tmux and screen send them
        {"\033[7~", "ed-move-to-beg"},    {"\033[8~", "ed-move-to-end"},  // and rxvt
        {"\033[1;5D", "ed-prev-word"},    {"\033[1;5C", "em-next-word"}};
    // The narrow el_set would copy these names and lose the copies.
    el_wset(el, EL_ADDFN, L"tarn-complete", L"complete the word at the cursor", complete);
    el_wset(el, EL_ADDFN, L"tarn-redraw", L"draw the line again", redraw);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
    }
}

tarn_editor *tarn_editor_open(const tarn_line_options *o) {
    tarn_editor *e = tarn_alloc_zero(o->budget, sizeof *e);
    if (!e) {
        return NULL;
    }
    e->o = *o;
    HistEvent ev;
    e->history = history_init();
    e->el = el_init("tarn", stdin, stdout, stderr);
    if (!e->el || !e->history) {
        tarn_editor_close(e);
        return NULL;
    }
    history(e->history, &ev, H_SETSIZE, (int)HISTORY);
    history(e->history, &ev, H_SETUNIQUE, 1);
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_EDITOR, "emacs");
    el_set(e->el, EL_SIGNAL, 0);
    el_set(e->el, EL_PROMPT_ESC, show_prompt, '\1');
    el_set(e->el, EL_HIST, history, e->history);
    el_set(e->el, EL_GETCFN, read_key);
    bind_keys(e->el);
    el_source(e->el, NULL);  // ~/.editrc
    return e;
}

void tarn_editor_close(tarn_editor *e) {
    if (!e) {
        return;
    }
    if (e->el) {
        el_end(e->el);
    }
    if (e->history) {
        history_end(e->history);
    }
    tarn_free(e->o.budget, e, sizeof *e);
}

tarn_line_result tarn_editor_read(tarn_editor *e, const char *prompt, tarn_text *out) {
    int n = 0;
    snprintf(e->prompt, sizeof e->prompt,
             e->o.colour ? "\1\033[1;36m\1%s\1\033[0m\1" : "%s", prompt);
    e->stopped = false;
    e->pending_at = e->pending_end = 0;
    struct sigaction wake = {.sa_handler = woken}, old_cont, old_winch;
    sigaction(SIGCONT, &wake, &old_cont);
    sigaction(SIGWINCH, &wake, &old_winch);
    el_set(e->el, EL_PREP_TERM, 1);  // before the prompt shows: who sees it may type Ctrl-D
    bracketed_paste(true);
    const char *s = el_gets(e->el, &n);
    bracketed_paste(false);
    sigaction(SIGCONT, &old_cont, NULL);
    sigaction(SIGWINCH, &old_winch, NULL);
    if (e->stopped) {
        fputs(tarn_cancel_reason(e->o.cancel) == TARN_STOP_INT ? "^C\n" : "\n", stdout);
        fflush(stdout);
        return TARN_LINE_STOPPED;
    }
    if (!s || n <= 0) {
        fputs("\n", stdout);
        return TARN_LINE_END;
    }
    tarn_text_add(out, s, (size_t)n - (s[n - 1] == '\n'));
    return TARN_LINE_TEXT;
}

void tarn_editor_remember(tarn_editor *e, const char *entry) {
    HistEvent ev;
    history(e->history, &ev, H_ENTER, entry);
}
