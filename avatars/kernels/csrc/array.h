// Arrays as Python hands them over: of one dtype, contiguous, on the CPU (anything else is a TypeError), and how their
// sizes are held against each other (what disagrees is a ValueError that names the argument).

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace splat {

namespace nb = nanobind;

// `Shape` is nb::shape<...>, or nothing where any will do. Never a converted copy: results would be written into that.
template <class T, class... Shape>
struct Array : nb::ndarray<T, Shape..., nb::c_contig, nb::device::cpu> {
    using Plain = nb::ndarray<T, Shape..., nb::c_contig, nb::device::cpu>;

    Array() = default;
    explicit Array(const Plain& plain) : Plain(plain) {}

    // Where a frame begins; an array of one frame serves all.
    T* frame(int64_t index) const { return this->data() + (this->shape(0) == 1 ? 0 : index * this->stride(0)); }
};

template <nb::ssize_t... Sizes>
using In = Array<const float, nb::shape<Sizes...>>;
template <nb::ssize_t... Sizes>
using Out = Array<float, nb::shape<Sizes...>>;
template <nb::ssize_t... Sizes>
using Indices = Array<const int32_t, nb::shape<Sizes...>>;
template <nb::ssize_t... Sizes>
using Bytes = Array<const uint8_t, nb::shape<Sizes...>>;

template <class T>
auto data_or_null(const std::optional<T>& array) -> decltype(array->data()) {
    return array ? array->data() : nullptr;
}

[[noreturn]] inline void refuse(const std::string& what) { throw std::invalid_argument(what); }

inline void require(bool good, const char* what) {
    if (!good) refuse(what);
}

// A size that several arrays share, and the argument that sets it.
struct Size {
    const char* unit;
    const char* owner;
    int64_t count;

    void hold(const char* name, int64_t found) const {
        if (found != count) complain(name, found, "");
    }
    void hold_or_one(const char* name, int64_t found) const {
        if (found != count && found != 1) complain(name, found, ", or 1");
    }
    template <class T>
    void hold(const char* name, const std::optional<T>& array, size_t axis) const {
        if (array) hold(name, array->shape(axis));
    }

private:
    [[noreturn]] void complain(const char* name, int64_t found, const char* or_one) const {
        refuse(std::string(name) + " must have " + std::to_string(count) + " " + unit + " like " + owner + or_one +
               "; found " + std::to_string(found) + ".");
    }
};

template <class A, class B>
void require_same_shape(const char* name, const A& array, const char* like, const B& other) {
    bool same = array.ndim() == other.ndim();
    for (size_t axis = 0; same && axis < array.ndim(); ++axis) same = array.shape(axis) == other.shape(axis);
    if (!same) refuse(std::string(name) + " must have the shape of " + like + ".");
}

inline void require_finite(const char* name, const float* values, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (!std::isfinite(values[i])) refuse(std::string(name) + " must be finite.");
}

// For a tensor of PyTorch, what its C function `to_dlpack` gives: through Tensor.__dlpack__, which is written in
// Python, each of a dozen arguments costs 3 us instead of a third of one. For anything else the object itself; null on
// failure.
inline nb::object dlpack_of(nb::handle source) noexcept {
    static PyObject *tensor_type = nullptr, *to_dlpack = nullptr;  // never released: PyTorch stays loaded
    if (!tensor_type) {
        PyObject* modules = PyImport_GetModuleDict();
        PyObject* torch = PyDict_GetItemString(modules, "torch");
        PyObject* dlpack = PyDict_GetItemString(modules, "torch.utils.dlpack");
        if (!torch || !dlpack) return nb::borrow(source);
        to_dlpack = PyObject_GetAttrString(dlpack, "to_dlpack");
        tensor_type = to_dlpack ? PyObject_GetAttrString(torch, "Tensor") : nullptr;
        if (!tensor_type) {
            PyErr_Clear();
            return nb::borrow(source);
        }
    }
    if (!PyObject_TypeCheck(source.ptr(), reinterpret_cast<PyTypeObject*>(tensor_type))) return nb::borrow(source);
    PyObject* capsule = PyObject_CallOneArg(to_dlpack, source.ptr());
    if (!capsule) PyErr_Clear();
    return nb::steal(capsule);
}

}  // namespace splat

namespace nanobind::detail {

template <class T, class... Shape>
struct type_caster<splat::Array<T, Shape...>> {
    using Inner = make_caster<typename splat::Array<T, Shape...>::Plain>;
    using Taken = splat::Array<T, Shape...>;
    NB_TYPE_CASTER(Taken, Inner::Name)

    template <class Flags>  // their type differs between versions of nanobind
    bool from_python(handle source, Flags, cleanup_list* cleanup) noexcept {
        const object capsule = splat::dlpack_of(source);
        Inner inner;
        if (!capsule.is_valid() || !inner.from_python(capsule, Flags(0), cleanup)) return false;
        value = Taken(inner.value);
        return reinterpret_cast<uintptr_t>(value.data()) % alignof(T) == 0;  // views of bytes may lie anywhere
    }
};

}  // namespace nanobind::detail
