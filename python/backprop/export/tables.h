Functions of C for exported models of tables: what they make of cells. As `functions.h`, all of them in double.

//// there
/* whether a number is one: NaN and infinities say nothing */
static inline int bp_there(double x)
{
    return x - x == 0;
}

//// soft
/* z / sqrt(1 + (z / 3)^2); the root by Newton's steps from above, after which it no longer falls */
static inline double bp_soft(double z)
{
    const double x = z / R(3), size = x < R(0) ? -x : x, square = R(1) + x * x;
    double root = R(1) + size, next = (root + square / root) * R(0.5);
    if (size > R(1e8))
        return z < R(0) ? R(-3) : R(3);
    while (next < root) {
        root = next;
        next = (root + square / root) * R(0.5);
    }
    return z / root;
}

//// number
/* the place of a number among n others, -1 if it is not there, -2 if it says nothing */
static inline int bp_number(double x, const double *numbers, int n)
{
    int i;
    if (!bp_there(x))
        return -2;
    for (i = 0; i < n; i++)
        if (x == numbers[i])
            return i;
    return -1;
}

//// blank
/* how many bytes of a text are a blank: of ASCII, or one of those of Unicode that are common */
static inline int bp_blank(const char *text, size_t length)
{
    if (length >= 1 && (*text == ' ' || (*text >= '\t' && *text <= '\r')))
        return 1;
    if (length >= 2 && memcmp(text, "\302\240", 2) == 0)
        return 2;
    return length >= 3 && (memcmp(text, "\342\200\211", 3) == 0 || memcmp(text, "\342\200\257", 3) == 0 ||
                           memcmp(text, "\357\273\277", 3) == 0) ? 3 : 0;
}

//// same
/* whether a text is a word, apart from capitals of ASCII where they do not matter */
static inline int bp_same(const char *text, size_t length, const char *word, int capitals)
{
    size_t i;
    if (strlen(word) != length)
        return 0;
    for (i = 0; i < length; i++) {
        const char c = text[i];
        if ((capitals || c < 'A' || c > 'Z' ? c : (char)(c - 'A' + 'a')) != word[i])
            return 0;
    }
    return 1;
}

//// find
/* the place of a word, without blanks around it, among n others; -1 if it is not there, -2 if it says nothing */
static inline int bp_find(const char *word, const char *const *words, int n)
{
    size_t length = word == NULL ? 0 : strlen(word);
    int i, blank;
    while (length && (blank = bp_blank(word, length)) > 0) {
        word += blank;
        length -= (size_t)blank;
    }
    for (blank = 1; blank <= 3 && (size_t)blank <= length; blank++)
        if (bp_blank(word + length - blank, (size_t)blank) == blank) {
            length -= (size_t)blank;
            blank = 0;
        }
    for (i = 0; length && i < BP_NOTHINGS; i++)
        if (bp_same(word, length, bp_nothing[i], 0))
            return -2;
    for (i = 0; length && i < n; i++)
        if (bp_same(word, length, words[i], 1))
            return i;
    return length ? -1 : -2;
}

//// floor
static inline double bp_floor(double x)
{
    const double whole = (double)(int64_t)x;
    return whole > x ? whole - R(1) : whole;
}

//// when
/* whether seconds since 1970 are a date */
static inline int bp_when(double seconds)
{
    return seconds > R(-1e13) && seconds < R(1e13);
}

//// month
/* how far a month is in its year, from 0 to 1; the year is that of March, so that its odd day comes last */
static inline double bp_month(double seconds)
{
    const double days = bp_floor(seconds / R(86400)), low = days < R(-1e6) ? R(-1e6) : days;
    const int64_t day = ((int64_t)(low > R(1e7) ? R(1e7) : low) + 719468 + 8 * 146097) % 146097;
    const int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    const int64_t of_year = day - (365 * year + year / 4 - year / 100);
    return (double)(((5 * of_year + 2) / 153 + 2) % 12) / R(12);
}

//// weekday
/* how far a day is in its week, which begins on Monday, from 0 to 1 */
static inline double bp_weekday(double seconds)
{
    const double days = bp_floor(seconds / R(86400)) + R(3);
    return (days - R(7) * bp_floor(days / R(7))) / R(7);
}

//// hour
/* how far a time is in its day, or in half or a third of one, from 0 to 1 */
static inline double bp_hour(double seconds, double times)
{
    const double x = (seconds - bp_floor(seconds / R(86400)) * R(86400)) / R(86400) * times;
    return x - bp_floor(x);
}

//// wave
/* sin(2 pi x) for 0 <= x <= 1, or with 1 quarter the cosine: within 45 degrees by its series */
static inline double bp_wave(double x, int quarters)
{
    const double angle = R(6.283185307179586) * x;
    const int nearest = (int)(angle * R(0.6366197723675814) + R(0.5)), quarter = nearest + quarters;
    const double r = (angle - nearest * R(1.5707963267341256)) - nearest * R(6.077100506506192e-11), z = r * r;
    double y;
    if (quarter % 2) {
        y = R(2.08767569878681e-09) - z * (R(1.1470745597729725e-11) - z * R(4.779477332387385e-14));
        y = R(2.48015873015873e-05) - z * (R(2.755731922398589e-07) - z * y);
        y = R(1) - z * (R(0.5) - z * (R(0.041666666666666664) - z * (R(0.001388888888888889) - z * y)));
    } else {
        y = R(1.6059043836821613e-10) - z * (R(7.647163731819816e-13) - z * R(2.8114572543455206e-15));
        y = R(0.0001984126984126984) - z * (R(2.7557319223985893e-06) - z * (R(2.505210838544172e-08) - z * y));
        y = r - r * z * (R(0.16666666666666666) - z * (R(0.008333333333333333) - z * y));
    }
    return quarter % 4 < 2 ? y : -y;
}

//// seconds
/* seconds since 1970-01-01 00:00 of a date; months and days count from 1 */
static inline double bp_seconds(int year, int month, int day, int hour, int minute, double second)
{
    const int64_t of_march = (int64_t)year - (month < 3) + 400000, years = of_march % 400;
    const int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    const int64_t days = of_march / 400 * 146097 + years * 365 + years / 4 - years / 100 + of_year;
    return (double)(days - 719468 - 1000 * INT64_C(146097)) * R(86400) + (hour * R(3600) + minute * R(60) + second);
}

//// digits
/* reads at least `least` and at most `most` digits; NULL where they are not there, or where there was no text */
static inline const char *bp_digits(const char *text, int least, int most, int *value)
{
    int n;
    *value = 0;
    for (n = 0; text != NULL && n < most && text[n] >= '0' && text[n] <= '9'; n++)
        *value = 10 * *value + (text[n] - '0');
    return text == NULL || n < least ? NULL : text + n;
}

//// after
/* the text after a character; NULL where another one is there */
static inline const char *bp_after(const char *text, char c)
{
    return text != NULL && *text == c ? text + 1 : NULL;
}

//// zone
/* reads what a time is ahead of UTC, Z or +02:00, in seconds */
static inline const char *bp_zone(const char *text, double *ahead)
{
    int hours, minutes = 0;
    const char sign = *text;
    *ahead = R(0);
    if (sign == 'Z')
        return text + 1;
    if (sign != '+' && sign != '-')
        return text;
    text = bp_digits(text + 1, 2, 2, &hours);
    if (text != NULL && *text)
        text = bp_digits(*text == ':' ? text + 1 : text, 2, 2, &minutes);
    *ahead = (sign == '-' ? R(-1) : R(1)) * (hours * R(3600) + minutes * R(60));
    return text;
}

//// date
/* seconds since 1970-01-01 00:00 UTC of "2024-05-31", "2024-05-31 13:30" or "2024-05-31T13:30:05.25+02:00"; else NaN */
static inline double bp_date(const char *text)
{
    const uint64_t pattern = UINT64_C(0x7ff8000000000000);
    int year, month, day, hour = 0, minute = 0, second = 0;
    double nothing, part = R(0), unit = R(1), ahead = R(0), found;
    memcpy(&nothing, &pattern, sizeof nothing);
    text = bp_after(bp_digits(text, 4, 4, &year), '-');
    text = bp_digits(bp_after(bp_digits(text, 1, 2, &month), '-'), 1, 2, &day);
    if (text != NULL && (*text == 'T' || *text == ' ')) {
        text = bp_digits(bp_after(bp_digits(text + 1, 1, 2, &hour), ':'), 2, 2, &minute);
        if (text != NULL && *text == ':')
            text = bp_digits(text + 1, 2, 2, &second);
        if (text != NULL && *text == '.')
            for (text++; *text >= '0' && *text <= '9'; text++) {
                part = part * R(10) + (*text - '0');
                unit = unit * R(10);
            }
        if (text != NULL)
            text = bp_zone(*text == ' ' ? text + 1 : text, &ahead);
    }
    if (text == NULL || *text || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59)
        return nothing;
    found = bp_seconds(year, month, day, hour, minute, second + part / unit);
    return found < bp_seconds(year + month / 12, month % 12 + 1, 1, 0, 0, R(0)) ? found - ahead : nothing;
}
