// A simulated accelerator for torch: asynchronous streams, events and an allocator on a virtual clock.
//
// Every operation runs on the CPU at once and moves two virtual times: the host's by the cost of a launch, and its
// stream's by the cost that a test gave the operation. Waiting moves the host's time to the stream's. So all device
// times are known exactly, and code that forgets to wait, or looks at another stream, sees the wrong time, as on a GPU.
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

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>

namespace {

constexpr auto kSim = c10::DeviceType::PrivateUse1;

// ---- time ------------------------------------------------------------------------------------------------------------
int64_t host_ns = 0;
int64_t busy_ns = 0;
constexpr int64_t kLaunchNs = 10'000;
std::map<std::string, int64_t> costs;         // operation -> nanoseconds on the device; others cost nothing
std::map<c10::StreamId, int64_t> stream_ns;   // when everything submitted to a stream has finished
c10::StreamId current = 0, streams = 0;

void submit(const std::string& name) {
  const auto found = costs.find(name);
  const int64_t cost = found == costs.end() ? 0 : found->second;
  int64_t& end = stream_ns[current];
  host_ns += kLaunchNs;
  busy_ns += cost;
  end = std::max(end, host_ns) + cost;
}

void wait_until(int64_t ns) { host_ns = std::max(host_ns, ns); }

void wait_for_all() {
  for (const auto& [_, end] : stream_ns) wait_until(end);
}

// ---- memory ----------------------------------------------------------------------------------------------------------
struct Allocator final : c10::DeviceAllocator {
  static inline c10::CachingDeviceAllocator::DeviceStats stats;

  static void release(void* block) {
    if (!block) return;
    auto* size = static_cast<size_t*>(block) - 8;
    count([&](auto& stat) { stat.decrease(*size); });
    std::free(size);
  }
  template <class F> static void count(F change) {
    change(stats.allocated_bytes[0]);
    change(stats.reserved_bytes[0]);
  }
  c10::DataPtr allocate(size_t size) override {
    // The size stands in a header of one cache line, so that releasing a block can count it.
    auto* header = static_cast<size_t*>(std::aligned_alloc(64, (size / 64 + 2) * 64));
    TORCH_CHECK(header, "out of memory");
    *header = size;
    count([&](auto& stat) { stat.increase(size); });
    void* block = header + 8;
    return {block, block, &release, c10::Device(kSim, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t size) const override { default_copy_data(to, from, size); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override { return stats; }
  void resetAccumulatedStats(c10::DeviceIndex) override {
    count([](auto& stat) { stat.reset_accumulated(); });
  }
  void resetPeakStats(c10::DeviceIndex) override {
    count([](auto& stat) { stat.reset_peak(); });
  }
};
Allocator allocator;
REGISTER_ALLOCATOR(kSim, &allocator)

// ---- devices, streams, events ----------------------------------------------------------------------------------------
struct Event {
  int64_t ns;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream stream(c10::StreamId id) {
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(kSim, 0), id);
  }
  static int64_t at(void* event) { return static_cast<Event*>(event)->ns; }

  c10::DeviceType type() const override { return kSim; }
  c10::Device exchangeDevice(c10::Device) const override { return getDevice(); }
  c10::Device getDevice() const override { return {kSim, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream getStream(c10::Device) const override { return stream(current); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(0); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(++streams); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(++streams); }
  c10::Stream exchangeStream(c10::Stream next) const override {
    const auto before = current;
    current = next.id();
    return stream(before);
  }
  bool queryStream(const c10::Stream& s) const override { return stream_ns[s.id()] <= host_ns; }
  void synchronizeStream(const c10::Stream& s) const override { wait_until(stream_ns[s.id()]); }
  void synchronizeDevice(const c10::DeviceIndex) const override { wait_for_all(); }

  void record(void** event, const c10::Stream& s, const c10::DeviceIndex, const c10::EventFlag) const override {
    if (!*event) *event = new Event;
    static_cast<Event*>(*event)->ns = std::max(stream_ns[s.id()], host_ns);
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  void block(void* event, const c10::Stream& s) const override {
    stream_ns[s.id()] = std::max(stream_ns[s.id()], at(event));
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
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
};
const bool registered = (at::RegisterPrivateUse1HooksInterface(new Hooks), true);

// ---- operations ------------------------------------------------------------------------------------------------------
/// The same memory, seen as a tensor of the CPU.
at::Tensor seen(const at::Tensor& t) {
  if (!t.defined() || t.is_cpu()) return t;
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), t.options().device(at::kCPU));
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   type.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           type.value_or(at::kFloat));
}

at::Tensor copy(const at::Tensor& from, const at::Tensor& to, bool) {
  if (to.is_cpu()) wait_until(stream_ns[current]);  // the host reads what the stream has written
  seen(to).copy_(seen(from));
  return to;
}

at::Tensor copy_resized(const at::Tensor& from, const at::Tensor& to) { return copy(from, to, false); }

at::Scalar scalar(const at::Tensor& t) {
  wait_until(stream_ns[current]);
  return at::_local_scalar_dense(seen(t));
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  submit("aten::convolution");
  const auto b = bias.has_value() && bias->defined() ? std::optional<at::Tensor>(seen(*bias)) : std::nullopt;
  return at::convolution(seen(x), seen(w), b, stride, padding, dilation, transposed, output_padding, groups)
      .to(x.device());
}

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  submit(op.schema().name());
  const auto before = stream_ns[current], host = host_ns;
  at::native::cpu_fallback(op, stack);
  // Its copies to and fro are no part of the simulated operation.
  stream_ns[current] = before;
  host_ns = host;
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
void sim_advance(int64_t ns) { host_ns += ns; }
void sim_cost(const char* operation, int64_t ns) { costs[operation] = ns; }
}
