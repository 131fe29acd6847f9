// Quick test of whether an op accepts its tensors; only if it fails do slower checks find the
// reason.
#include "fits.h"

#include <cctype>

namespace pydisent {
namespace {

// DLPack 1's structures for a tensor and for a library's functions: a C interface, the same in all
// releases of torch that provide it. torch's own header of it is not part of the stable ABI.
struct Described {
  void* data;
  int32_t device_type, device_id, axes;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t offset;
};

struct Exchange {
  uint32_t major, minor;
  Exchange* before;
  void *allocate, *managed_from_object, *managed_to_object;
  int (*describe)(void* object, Described* out);
  void* current_stream;
};

constexpr uint32_t kMajor = 1;
constexpr uint8_t kFloat = 2, kBFloat = 4;

const Exchange* exchange = nullptr;
PyTypeObject *tensor_type = nullptr, *parameter_type = nullptr;

// Sizes bound to letters, and the leading axes before those of the pattern.
struct Known {
  int64_t sizes[128];
  bool is_known[128] = {};
  const int64_t* leading = nullptr;
  int32_t leading_count = -1;

  bool has(char letter, int64_t size) {
    if (std::isdigit(letter)) return size == letter - '0';
    if (std::isupper(letter) && size < 1) return false;
    if (is_known[+letter]) return sizes[+letter] == size;
    is_known[+letter] = true, sizes[+letter] = size;
    return true;
  }

  bool has_leading(const int64_t* shape, int32_t count) {
    if (leading_count < 0) leading = shape, leading_count = count;
    if (leading_count != count) return false;
    for (int32_t i = 0; i < count; ++i)
      if (leading[i] != shape[i]) return false;
    return true;
  }
};

bool is_floating(const Described& x) {
  if (x.lanes != 1) return false;
  return x.code == kBFloat || (x.code == kFloat && (x.bits == 16 || x.bits == 32 || x.bits == 64));
}

bool describe(PyObject* x, Described& out) {
  if (Py_TYPE(x) != tensor_type && Py_TYPE(x) != parameter_type) return false;
  if (exchange->describe(x, &out) == 0) return is_floating(out);
  PyErr_Clear();
  return false;
}

bool fit(const char* pattern, PyObject* const* tensors, Py_ssize_t count) {
  Known known;
  Described first{};
  for (Py_ssize_t i = 0; i < count; ++i) {
    Described x{};
    if (!describe(tensors[i], x)) return false;
    if (i == 0) first = x;
    if (x.code != first.code || x.bits != first.bits) return false;
    if (x.device_type != first.device_type || x.device_id != first.device_id) return false;
    const bool any_leading = *pattern == '.';
    pattern += any_leading;
    int32_t axes = 0;
    while (pattern[axes] && pattern[axes] != ' ') ++axes;
    const int32_t before = x.axes - axes;
    if (before < 0 || (before > 0 && !any_leading)) return false;
    if (any_leading && !known.has_leading(x.shape, before)) return false;
    for (int32_t d = 0; d < axes; ++d)
      if (!known.has(pattern[d], x.shape[before + d])) return false;
    pattern += axes + (pattern[axes] == ' ');
  }
  return *pattern == 0;
}

PyObject* fits(PyObject*, PyObject* const* args, Py_ssize_t count) {
  const char* pattern = count > 0 ? PyUnicode_AsUTF8(args[0]) : nullptr;
  if (!pattern) return nullptr;
  return PyBool_FromLong(exchange && fit(pattern, args + 1, count - 1));
}

PyMethodDef methods[] = {
    {"fits", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(fits)), METH_FASTCALL,
     "fits(pattern, *tensors): whether these are plain tensors of one floating dtype and device\n"
     "with the shapes of the pattern, a word for each: a letter is a size, at least 1 if it is a\n"
     "capital; a digit is itself; a dot stands for any axes, the same wherever there is one."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_fits(PyObject* module) {
  PyModule_AddFunctions(module, methods);
  PyObject* torch = PyImport_ImportModule("torch");
  PyObject* nn = PyImport_ImportModule("torch.nn");
  if (torch && nn) {
    tensor_type = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(torch, "Tensor"));
    parameter_type = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(nn, "Parameter"));
  }
  if (tensor_type && parameter_type) {
    PyObject* type = reinterpret_cast<PyObject*>(tensor_type);
    PyObject* capsule = PyObject_GetAttrString(type, "__dlpack_c_exchange_api__");
    if (capsule && PyCapsule_IsValid(capsule, "dlpack_exchange_api"))
      exchange = static_cast<const Exchange*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    Py_XDECREF(capsule);
  }
  if (exchange && (exchange->major != kMajor || !exchange->describe)) exchange = nullptr;
  PyErr_Clear();  // without it no tensor fits, and Python checks them all
  Py_XDECREF(torch);
  Py_XDECREF(nn);
}

}  // namespace pydisent
