/* A libnvidia-ml.so.1 that answers from a script, so that the real binding is driven without a GPU.
 *
 * The file named by NVML_STUB holds lines `metric token token ...`. Each call takes the next token of its metric, and
 * the last token repeats. The token `!15` returns NVML error 15; a metric that the script lacks is not supported.
 * `metric.1` answers for the second device alone. Compile with -DOLD_DRIVER to leave out the newer symbols. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LINES = 64, TOKENS = 64 };

typedef struct { char *tokens[TOKENS]; int count, next; } Line;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version, sensor; int celsius; } Temperature;
typedef struct { unsigned gpu, memory; } Utilisation;
typedef void *Device;

static Line lines[LINES];
static int known = -1;

static void load(void) {
    char text[4096];
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    known = 0;
    while (file && known < LINES && fgets(text, sizeof text, file)) {
        Line *line = &lines[known];
        for (char *word = strtok(text, " \n"); word && line->count < TOKENS; word = strtok(NULL, " \n"))
            line->tokens[line->count++] = strdup(word);
        if (line->count > 1) line->next = 1, known++;
    }
    if (file) fclose(file);
}

static Line *find(const char *metric) {
    if (known < 0) load();
    for (int i = 0; i < known; i++)
        if (!strcmp(lines[i].tokens[0], metric)) return &lines[i];
    return NULL;
}

/* Set *token to the next answer of a metric and return the NVML status that goes with it. */
static int answer(const char *metric, Device device, const char **token) {
    char own[64];
    snprintf(own, sizeof own, "%s.%d", metric, (int)(size_t)device - 1);
    Line *line = device ? find(own) : NULL;
    if (!line) line = find(metric);
    if (!line) return UNSUPPORTED;
    *token = line->tokens[line->next];
    if (line->next + 1 < line->count) line->next++;
    return **token == '!' ? atoi(*token + 1) : OK;
}

static int number(const char *metric, Device device, unsigned long long *value) {
    const char *token;
    int status = answer(metric, device, &token);
    if (status == OK) *value = strtoull(token, NULL, 0);
    return status;
}

static int small(const char *metric, Device device, unsigned *value) {
    unsigned long long wide = 0;
    int status = number(metric, device, &wide);
    if (status == OK) *value = (unsigned)wide;
    return status;
}

static int text(const char *metric, Device device, char *out, unsigned size) {
    const char *token;
    int status = answer(metric, device, &token);
    if (status == OK) snprintf(out, size, "%s", token);
    return status;
}

static int start(void) {
    const char *token;
    int status = answer("init", NULL, &token);
    return status == UNSUPPORTED ? OK : status;
}

int nvmlInit(void) { return start(); }
int nvmlInit_v2(void) { return start(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return start(); }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text("driver", NULL, out, size); }
int nvmlDeviceGetCount_v2(unsigned *count) { return small("count", NULL, count); }

/* `handle.1 !4` says that this process may not ask the second device. */
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    const char *token;
    *device = (Device)(size_t)(index + 1);
    const int status = answer("handle", *device, &token);
    return status == UNSUPPORTED ? OK : status;
}

/* The line `uuids a b` names the devices in their order. */
int nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    Line *line = find("uuids");
    for (int i = 1; line && i < line->count; i++)
        if (!strcmp(line->tokens[i], uuid)) return nvmlDeviceGetHandleByIndex_v2(i - 1, device);
    return NOT_FOUND;
}

/* `partition.1 0` says that the second device is a partition (MIG) on the first. */
int nvmlDeviceIsMigDeviceHandle(Device d, unsigned *is) {
    char own[64];
    snprintf(own, sizeof own, "partition.%d", (int)(size_t)d - 1);
    *is = find(own) != NULL;
    return OK;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device d, Device *parent) {
    unsigned index = 0;
    int status = small("partition", d, &index);
    return status == OK ? nvmlDeviceGetHandleByIndex_v2(index, parent) : status;
}
int nvmlDeviceSetGpuLockedClocks(Device d, unsigned low, unsigned high) {
    unsigned ignored;
    const char *path = getenv("NVML_STUB_LOCKED");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%d %u %u\n", (int)(size_t)d - 1, low, high); fclose(file); }
    return small("lock", d, &ignored);
}
int nvmlDeviceResetGpuLockedClocks(Device d) { return nvmlDeviceSetGpuLockedClocks(d, 0, 0); }
int nvmlDeviceGetUUID(Device d, char *out, unsigned size) {
    Line *line = find("uuids");
    int index = (int)(size_t)d;
    if (!line || index >= line->count) return UNSUPPORTED;
    snprintf(out, size, "%s", line->tokens[index]);
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(Device d, unsigned *count) { return small("partitions", d, count); }
int nvmlDeviceGetMigDeviceHandleByIndex(Device d, unsigned index, Device *partition) {
    (void)d;
    return nvmlDeviceGetHandleByIndex_v2(index + 1, partition);
}

int nvmlDeviceGetName(Device d, char *out, unsigned size) { return text("name", d, out, size); }
int nvmlDeviceGetClockInfo(Device d, unsigned kind, unsigned *mhz) {
    return small(kind == 1 ? "clock" : kind == 2 ? "memory_clock" : "other_clock", d, mhz);
}
int nvmlDeviceGetMaxClockInfo(Device d, unsigned kind, unsigned *mhz) {
    return kind == 1 ? small("max_clock", d, mhz) : kind == 2 ? small("max_memory_clock", d, mhz) : UNSUPPORTED;
}
int nvmlDeviceGetApplicationsClock(Device d, unsigned kind, unsigned *mhz) {
    return kind == 1 ? small("application_clock", d, mhz) : UNSUPPORTED;
}
int nvmlDeviceGetTotalEnergyConsumption(Device d, unsigned long long *mj) { return number("energy", d, mj); }
int nvmlDeviceGetEnforcedPowerLimit(Device d, unsigned *mw) { return small("power_limit", d, mw); }
int nvmlDeviceGetPowerManagementLimit(Device d, unsigned *mw) { return small("power_settable", d, mw); }
int nvmlDeviceGetPowerManagementDefaultLimit(Device d, unsigned *mw) { return small("power_default", d, mw); }
int nvmlDeviceGetPersistenceMode(Device d, unsigned *mode) { return small("persistence", d, mode); }
int nvmlDeviceGetComputeMode(Device d, unsigned *mode) { return small("compute_mode", d, mode); }
int nvmlDeviceGetCurrPcieLinkGeneration(Device d, unsigned *value) { return small("pcie_generation", d, value); }
int nvmlDeviceGetMaxPcieLinkGeneration(Device d, unsigned *value) { return small("pcie_generation_max", d, value); }
int nvmlDeviceGetCurrPcieLinkWidth(Device d, unsigned *value) { return small("pcie_width", d, value); }
int nvmlDeviceGetMaxPcieLinkWidth(Device d, unsigned *value) { return small("pcie_width_max", d, value); }
int nvmlDeviceGetPowerUsage(Device d, unsigned *mw) { return small("power", d, mw); }
int nvmlDeviceGetUtilizationRates(Device d, Utilisation *u) { u->memory = 0; return small("utilisation", d, &u->gpu); }

int nvmlDeviceGetMigMode(Device d, unsigned *now, unsigned *pending) {
    int status = small("mig", d, now);
    *pending = *now;
    return status;
}
int nvmlDeviceGetEccMode(Device d, unsigned *now, unsigned *pending) {
    int status = small("ecc", d, now);
    *pending = *now;
    return status;
}
int nvmlDeviceGetMemoryInfo(Device d, Memory *memory) {
    memory->total = 1ull << 34;
    int status = number("memory", d, &memory->used);
    memory->free = memory->total - memory->used;
    return status;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetCurrentClocksEventReasons(Device d, unsigned long long *mask) { return number("events", d, mask); }
int nvmlDeviceGetTemperatureV(Device d, Temperature *t) { return small("temperature", d, (unsigned *)&t->celsius); }
#endif
int nvmlDeviceGetCurrentClocksThrottleReasons(Device d, unsigned long long *mask) { return number("events", d, mask); }
int nvmlDeviceGetTemperature(Device d, unsigned sensor, unsigned *c) { (void)sensor; return small("temperature", d, c); }

/* A token is `none` or `pid:bytes,pid:bytes`; `self` is who asks, and without bytes it is 256 MiB. The caller asks once for
 * the count and once for the list: one answer serves both. */
int nvmlDeviceGetComputeRunningProcesses_v3(Device d, unsigned *count, Process *out) {
    static const char *token;
    if (!out) {
        int status = answer("processes", d, &token);
        if (status != OK) return status;
        if (!strcmp(token, "none")) { *count = 0; return OK; }
        *count = 1;
        for (const char *c = token; *c; c++) *count += *c == ',';
        return TOO_SMALL;
    }
    unsigned n = 0;
    for (const char *at = token; at && *at && n < *count; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const unsigned pid = strncmp(at, "self", 4) ? (unsigned)strtoul(at, NULL, 10) : (unsigned)getpid();
        const char *bytes = strpbrk(at, ":,");
        out[n++] = (Process){pid, bytes && *bytes == ':' ? strtoull(bytes + 1, NULL, 10) : 1ull << 28, ~0u, ~0u};
    }
    *count = n;
    return OK;
}
