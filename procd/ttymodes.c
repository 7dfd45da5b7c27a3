/*
 * procd/ttymodes.c - see ttymodes.h. Numbers: RFC 4254 section 8; IUTF8: RFC 8160.
 */
#include "procd/ttymodes.h"

#include "core/check.h"

#include <unistd.h>

#define OP_END 0
#define OP_ISPEED 128
#define OP_OSPEED 129
#define OP_WITH_ARGUMENT_MAX 159 /* what follows is not defined */

static const struct {
	uint8_t op, index;
} chars[] = {
	{1, VINTR},  {2, VQUIT}, {3, VERASE}, {4, VKILL},     {5, VEOF},     {6, VEOL},    {7, VEOL2},
	{8, VSTART}, {9, VSTOP}, {10, VSUSP}, {12, VREPRINT}, {13, VWERASE}, {14, VLNEXT}, {18, VDISCARD},
};

enum flag_word { WORD_IN, WORD_OUT, WORD_CONTROL, WORD_LOCAL };

static const struct {
	uint8_t op;
	enum flag_word word;
	tcflag_t bits;
} flags[] = {
	{30, WORD_IN, IGNPAR},      {31, WORD_IN, PARMRK},      {32, WORD_IN, INPCK},     {33, WORD_IN, ISTRIP},
	{34, WORD_IN, INLCR},       {35, WORD_IN, IGNCR},       {36, WORD_IN, ICRNL},     {37, WORD_IN, IUCLC},
	{38, WORD_IN, IXON},        {39, WORD_IN, IXANY},       {40, WORD_IN, IXOFF},     {41, WORD_IN, IMAXBEL},
	{42, WORD_IN, IUTF8},       {50, WORD_LOCAL, ISIG},     {51, WORD_LOCAL, ICANON}, {52, WORD_LOCAL, XCASE},
	{53, WORD_LOCAL, ECHO},     {54, WORD_LOCAL, ECHOE},    {55, WORD_LOCAL, ECHOK},  {56, WORD_LOCAL, ECHONL},
	{57, WORD_LOCAL, NOFLSH},   {58, WORD_LOCAL, TOSTOP},   {59, WORD_LOCAL, IEXTEN}, {60, WORD_LOCAL, ECHOCTL},
	{61, WORD_LOCAL, ECHOKE},   {62, WORD_LOCAL, PENDIN},   {70, WORD_OUT, OPOST},    {71, WORD_OUT, OLCUC},
	{72, WORD_OUT, ONLCR},      {73, WORD_OUT, OCRNL},      {74, WORD_OUT, ONOCR},    {75, WORD_OUT, ONLRET},
	{92, WORD_CONTROL, PARENB}, {93, WORD_CONTROL, PARODD},
};

static const struct {
	uint32_t bits_per_second;
	speed_t speed;
} speeds[] = {
	{0, B0},         {50, B50},       {75, B75},         {110, B110},       {134, B134},
	{150, B150},     {200, B200},     {300, B300},       {600, B600},       {1200, B1200},
	{1800, B1800},   {2400, B2400},   {4800, B4800},     {9600, B9600},     {19200, B19200},
	{38400, B38400}, {57600, B57600}, {115200, B115200}, {230400, B230400},
};

static tcflag_t *word_of(struct termios *t, enum flag_word word)
{
	switch (word) {
	case WORD_IN:
		return &t->c_iflag;
	case WORD_OUT:
		return &t->c_oflag;
	case WORD_CONTROL:
		return &t->c_cflag;
	default:
		return &t->c_lflag;
	}
}

static void apply_speed(uint8_t op, uint32_t value, struct termios *t)
{
	for (size_t i = 0; i < ARRAY_LEN(speeds); i++) {
		if (speeds[i].bits_per_second != value)
			continue;
		if (op == OP_ISPEED)
			(void)cfsetispeed(t, speeds[i].speed);
		else
			(void)cfsetospeed(t, speeds[i].speed);
	}
}

static void apply_one(uint8_t op, uint32_t value, struct termios *t)
{
	if (op == OP_ISPEED || op == OP_OSPEED) {
		apply_speed(op, value, t);
		return;
	}
	/* Character size: one bit field, so CS7 off means nothing. */
	if ((op == 90 || op == 91) && value) {
		t->c_cflag = (t->c_cflag & ~(tcflag_t)CSIZE) | (op == 90 ? CS7 : CS8);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(chars); i++)
		if (chars[i].op == op)
			t->c_cc[chars[i].index] = value == 255 ? _POSIX_VDISABLE : (cc_t)value;
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		tcflag_t *word = word_of(t, flags[i].word);

		if (flags[i].op == op)
			*word = value ? *word | flags[i].bits : *word & ~flags[i].bits;
	}
}

void ttymodes_apply(struct bytes modes, struct termios *t)
{
	const uint8_t *p = modes.p;
	size_t n = modes.n;

	while (n >= 5 && p[0] != OP_END && p[0] <= OP_WITH_ARGUMENT_MAX) {
		apply_one(p[0], (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4], t);
		p += 5;
		n -= 5;
	}
}
