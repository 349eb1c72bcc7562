// A simulated accelerator for torch: asynchronous streams, events and an allocator on a virtual clock.
//
// Every operation runs on the CPU at once and moves two virtual times: the host's by the cost of a launch, and its
// stream's by the cost that a test gave the operation. Waiting moves the host's time to the stream's. So all device
// times are known exactly, and code that forgets to wait, or looks at another stream or another of the two devices, sees
// the wrong time, as on a GPU. It obeys CUDA's switches for TF32, and its allocator keeps what it once reserved.
// When it is told to be lazy, memory too holds what an operation writes only once the stream has come so far.
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr auto kSim = c10::DeviceType::PrivateUse1;

// ---- time ------------------------------------------------------------------------------------------------------------
constexpr c10::DeviceIndex kDevices = 2;
using Key = std::pair<c10::DeviceIndex, c10::StreamId>;

int64_t host_ns = 0;
int64_t busy_ns = 0;
int64_t zeroed_bytes = 0;
int64_t clock_mhz = 1000;                     // of the multiprocessors; a test moves it
int64_t others_bytes[kDevices] = {};          // what others than torch's allocator hold
int64_t tf32_divisor = 1;                     // how much less a product or a convolution costs in TF32
constexpr int64_t kLaunchNs = 10'000;
std::map<std::string, int64_t> costs;         // operation -> nanoseconds on the device; others cost nothing
std::map<Key, int64_t> stream_ns;             // when everything submitted to a stream has finished
c10::StreamId current[kDevices] = {}, streams = 0;
c10::DeviceIndex device = 0;

Key here() { return {device, current[device]}; }

bool in_tf32(const std::string& name) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 9
  const auto precision = [](at::Float32Op op) {
    return at::globalContext().float32Precision(at::Float32Backend::CUDA, op) == at::Float32Precision::TF32;
  };
  if (name == "aten::convolution") return precision(at::Float32Op::CONV);
  return (name == "aten::mm" || name == "aten::addmm") && precision(at::Float32Op::MATMUL);
#else
  if (name == "aten::convolution") return at::globalContext().allowTF32CuDNN();
  return (name == "aten::mm" || name == "aten::addmm") && at::globalContext().allowTF32CuBLAS();
#endif
}

// ---- lazy memory -----------------------------------------------------------------------------------------------------
/// What an operation writes: before `at` the memory holds what it held, and afterwards what was computed.
struct Write {
  char* to;
  std::string stale, done;
  int64_t at;
};
bool lazy = false;
std::vector<Write> writes;                    // in the order of submission

void put(const Write& one, const std::string& bytes) { std::memcpy(one.to, bytes.data(), bytes.size()); }

/// Let memory be what it is at a time.
void show(int64_t ns) {
  for (auto one = writes.rbegin(); one != writes.rend(); ++one) put(*one, one->stale);
  for (const auto& one : writes)
    if (one.at <= ns) put(one, one.done);
}

void forget(const char* from, size_t size) {
  std::erase_if(writes, [&](const Write& one) { return one.to >= from && one.to < from + size; });
}

/// While this lives memory is as an operation finds it that starts now; afterwards as the host finds it.
struct Lazily {
  static inline bool inside = false;
  const bool outer = lazy && !inside;
  std::vector<Write> mine;

  explicit Lazily(const std::vector<at::Tensor>& changed) {
    if (!outer) return;
    inside = true;
    show(std::max(stream_ns[here()], host_ns));
    for (const auto& one : changed) {
      const auto& storage = one.storage();
      auto* to = static_cast<char*>(storage.mutable_data());
      mine.push_back({to, std::string(to, storage.nbytes()), {}, 0});
    }
  }
  /// What did not exist before holds no number until it is written.
  void made(const at::Tensor& one) {
    if (!outer || !one.defined() || one.is_cpu()) return;
    auto* to = static_cast<char*>(one.storage().mutable_data());
    const auto same = [&](const Write& other) { return other.to == to; };
    if (std::none_of(mine.begin(), mine.end(), same)) mine.push_back({to, std::string(one.storage().nbytes(), '\xff'), {}, 0});
  }
  ~Lazily() {
    if (!outer) return;
    for (auto& one : mine) {
      one.done.assign(one.to, one.stale.size());
      one.at = stream_ns[here()];
      writes.push_back(one);
    }
    show(host_ns);
    std::erase_if(writes, [](const Write& one) { return one.at <= host_ns; });
    inside = false;
  }
};

void submit(const std::string& name) {
  const auto found = costs.find(name);
  const int64_t cost = found == costs.end() ? 0 : found->second / (in_tf32(name) ? tf32_divisor : 1);
  int64_t& end = stream_ns[here()];
  host_ns += kLaunchNs;
  busy_ns += cost;
  end = std::max(end, host_ns) + cost;
}

/// A kernel that waits for so many cycles of its clock.
void sleep_for(int64_t cycles) {
  int64_t& end = stream_ns[here()];
  host_ns += kLaunchNs;
  end = std::max(end, host_ns) + cycles * 1000 / clock_mhz;
}

void wait_until(int64_t ns) {
  host_ns = std::max(host_ns, ns);
  if (lazy && !Lazily::inside) show(host_ns);
}

void wait_for_all(c10::DeviceIndex index) {
  for (const auto& [key, end] : stream_ns)
    if (key.first == index) wait_until(end);
}

/// The device of a tensor is current for as long as this lives.
struct On {
  const c10::DeviceIndex before = device;
  explicit On(const std::optional<at::Device>& there) {
    if (there && there->type() == kSim && there->has_index()) device = there->index();
  }
  ~On() { device = before; }
};

/// Copies to and fro while this lives are no part of the simulated operation.
struct Aside {
  const Key key = here();
  const int64_t end = stream_ns[here()], host = host_ns, busy = busy_ns;
  ~Aside() {
    stream_ns[key] = end;
    host_ns = host;
    busy_ns = busy;
  }
};

// ---- memory ----------------------------------------------------------------------------------------------------------
struct Allocator final : c10::DeviceAllocator {
  static constexpr size_t kPage = 2 << 20;    // memory is reserved in such pieces
  static inline c10::CachingDeviceAllocator::DeviceStats stats[kDevices];
  struct Header {
    size_t size;
    c10::DeviceIndex index;
  };

  static void release(void* block) {
    if (!block) return;
    auto* header = reinterpret_cast<Header*>(static_cast<char*>(block) - 64);
    stats[header->index].allocated_bytes[0].decrease(header->size);
    forget(static_cast<char*>(block), header->size);
    std::free(header);
  }
  static int64_t paged(int64_t size) { return (size + kPage - 1) / kPage * kPage; }

  c10::DataPtr allocate(size_t size) override {
    // The size stands in a header of one cache line, so that releasing a block can count it.
    auto* header = static_cast<Header*>(std::aligned_alloc(64, (size / 64 + 2) * 64));
    TORCH_CHECK(header, "out of memory");
    *header = {size, device};
    auto &used = stats[device].allocated_bytes[0], &reserved = stats[device].reserved_bytes[0];
    used.increase(size);
    if (used.current > reserved.current) reserved.increase(paged(used.current) - reserved.current);
    void* block = reinterpret_cast<char*>(header) + 64;
    if (lazy) std::memset(block, 0xff, size);  // no number
    return {block, block, &release, c10::Device(kSim, device)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t size) const override { default_copy_data(to, from, size); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {
    for (auto& one : stats) {
      auto& reserved = one.reserved_bytes[0];
      reserved.decrease(reserved.current - paged(one.allocated_bytes[0].current));
    }
  }
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex index) override { return stats[index]; }
  template <class F> static void both(c10::DeviceIndex index, F change) {
    change(stats[index].allocated_bytes[0]);
    change(stats[index].reserved_bytes[0]);
  }
  void resetAccumulatedStats(c10::DeviceIndex index) override {
    both(index, [](auto& stat) { stat.reset_accumulated(); });
  }
  void resetPeakStats(c10::DeviceIndex index) override {
    both(index, [](auto& stat) { stat.reset_peak(); });
  }
};
Allocator allocator;
REGISTER_ALLOCATOR(kSim, &allocator)

// ---- devices, streams, events ----------------------------------------------------------------------------------------
struct Event {
  int64_t ns;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream stream(c10::Device on, c10::StreamId id) {
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(kSim, on.has_index() ? on.index() : device), id);
  }
  static int64_t& end(const c10::Stream& s) { return stream_ns[{s.device_index(), s.id()}]; }
  static int64_t at(void* event) { return static_cast<Event*>(event)->ns; }

  c10::DeviceType type() const override { return kSim; }
  c10::Device exchangeDevice(c10::Device next) const override {
    return {kSim, std::exchange(device, next.has_index() ? next.index() : device)};
  }
  c10::Device getDevice() const override { return {kSim, device}; }
  void setDevice(c10::Device next) const override { exchangeDevice(next); }
  void uncheckedSetDevice(c10::Device next) const noexcept override { exchangeDevice(next); }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }

  c10::Stream getStream(c10::Device on) const override { return stream(on, current[stream(on, 0).device_index()]); }
  c10::Stream getDefaultStream(c10::Device on) const override { return stream(on, 0); }
  c10::Stream getNewStream(c10::Device on, int) const override { return stream(on, ++streams); }
  c10::Stream getStreamFromGlobalPool(c10::Device on, bool) const override { return stream(on, ++streams); }
  c10::Stream exchangeStream(c10::Stream next) const override {
    return stream(next.device(), std::exchange(current[next.device_index()], next.id()));
  }
  bool queryStream(const c10::Stream& s) const override { return end(s) <= host_ns; }
  void synchronizeStream(const c10::Stream& s) const override { wait_until(end(s)); }
  void synchronizeDevice(const c10::DeviceIndex index) const override { wait_for_all(index < 0 ? device : index); }

  void record(void** event, const c10::Stream& s, const c10::DeviceIndex, const c10::EventFlag) const override {
    if (!*event) *event = new Event;
    static_cast<Event*>(*event)->ns = std::max(end(s), host_ns);
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  void block(void* event, const c10::Stream& s) const override {
    end(s) = std::max(end(s), at(event));
  }
  bool queryEvent(void* event) const override { return !event || at(event) <= host_ns; }
  void synchronizeEvent(void* event) const override { wait_until(at(event)); }
  double elapsedTime(void* first, void* last, const c10::DeviceIndex) const override {
    TORCH_CHECK(queryEvent(first) && queryEvent(last), "device not ready: the event has not happened yet");
    return static_cast<double>(at(last) - at(first)) / 1e6;
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kDevices; }
  c10::DeviceIndex getCurrentDevice() const override { return device; }
  void setCurrentDevice(c10::DeviceIndex next) const override { device = next; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex next) const override { return std::exchange(device, next); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex next) const override {
    return std::exchange(device, next < 0 ? device : next);
  }
};
const bool registered = (at::RegisterPrivateUse1HooksInterface(new Hooks), true);

// ---- operations ------------------------------------------------------------------------------------------------------
/// The same memory, seen as a tensor of the CPU.
at::Tensor seen(const at::Tensor& t) {
  if (!t.defined() || t.is_cpu()) return t;
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), t.options().device(at::kCPU));
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device> there, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const On on(there);
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   type.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device> there, std::optional<bool>) {
  const On on(there);
  return at::detail::empty_strided_generic(size, stride, &allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           type.value_or(at::kFloat));
}

at::Tensor copy(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const On on(to.is_cpu() ? from.device() : to.device());
  const std::string name = to.is_cpu() ? "copy_out" : from.is_cpu() ? "copy_in" : "copy";
  if (costs.count(name)) submit(name);        // a test says what it costs, else it is free
  if (to.is_cpu()) {
    if (!non_blocking) wait_until(stream_ns[here()]);  // the host reads what the stream has written
    seen(to).copy_(seen(from));
    return to;
  }
  const Lazily lazily({to});
  seen(to).copy_(seen(from));
  return to;
}

at::Tensor copy_resized(const at::Tensor& from, const at::Tensor& to) { return copy(from, to, false); }

at::Scalar scalar(const at::Tensor& t) {
  const On on(t.device());
  wait_until(stream_ns[here()]);
  return at::_local_scalar_dense(seen(t));
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  const On on(x.device());
  Lazily lazily({});
  submit("aten::convolution");
  const auto b = bias.has_value() && bias->defined() ? std::optional<at::Tensor>(seen(*bias)) : std::nullopt;
  const Aside aside;
  auto made = at::convolution(seen(x), seen(w), b, stride, padding, dilation, transposed, output_padding, groups)
                  .to(x.device());
  lazily.made(made);
  return made;
}

/// Where the arguments of an operation are.
std::optional<at::Device> device_of(const torch::jit::Stack& arguments) {
  for (const auto& one : arguments)
    if (one.isTensor() && one.toTensor().defined() && !one.toTensor().is_cpu()) return one.toTensor().device();
  return std::nullopt;
}

std::vector<at::Tensor> tensors(const c10::IValue& one) {
  if (one.isTensor()) return {one.toTensor()};
  return one.isTensorList() ? one.toTensorVector() : std::vector<at::Tensor>{};
}

/// The arguments that an operation writes to.
std::vector<at::Tensor> changed(const c10::OperatorHandle& op, const torch::jit::Stack& given) {
  std::vector<at::Tensor> found;
  for (size_t i = 0; i < given.size(); ++i) {
    const auto* alias = op.schema().arguments()[i].alias_info();
    if (!alias || !alias->isWrite()) continue;
    for (const auto& one : tensors(given[i]))
      if (one.defined() && !one.is_cpu() && one.has_storage()) found.push_back(one);
  }
  return found;
}

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto name = op.schema().name();
  const auto given = torch::jit::last(*stack, op.schema().arguments().size()).vec();
  const On on(device_of(given));
  Lazily lazily(changed(op, given));
  submit(name);
  if (name == "aten::zero_") zeroed_bytes += torch::jit::peek(*stack, 0, 1).toTensor().nbytes();
  const Aside aside;
  at::native::cpu_fallback(op, stack);
  for (const auto& one : torch::jit::last(*stack, op.schema().returns().size()))
    for (const auto& tensor : tensors(one)) lazily.made(tensor);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  m.impl("_copy_from", copy);
  m.impl("_copy_from_and_resize", copy_resized);
  m.impl("_local_scalar_dense", scalar);
  m.impl("convolution_overrideable", convolution);
}

}  // namespace

// ---- what a test turns and reads -------------------------------------------------------------------------------------
extern "C" {
int64_t sim_now_ns() { return host_ns; }
int64_t sim_busy_ns() { return busy_ns; }
int64_t sim_zeroed_bytes() { return zeroed_bytes; }
int64_t sim_current_device() { return device; }
void sim_sleep(int64_t cycles) { sleep_for(cycles); }
void sim_clock_mhz(int64_t mhz) { clock_mhz = mhz; }
void sim_others(int64_t index, int64_t bytes) { others_bytes[index] = bytes; }
int64_t sim_used_bytes(int64_t index) { return Allocator::stats[index].reserved_bytes[0].current + others_bytes[index]; }
void sim_empty_cache() { allocator.emptyCache({}); }
void sim_tf32(int64_t divisor) { tf32_divisor = divisor; }
void sim_advance(int64_t ns) { wait_until(host_ns + ns); }
void sim_lazy(bool on) { lazy = on; }
void sim_cost(const char* operation, int64_t ns) { costs[operation] = ns; }
}
